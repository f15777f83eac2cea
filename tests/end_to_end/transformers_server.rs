//! The remote simulation LLM on a server that others wrote, where it is installed: `transformers serve`
//! with the shipped model as this project writes it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use zs_core::{Document, Question, SearchEngine, SearchRequest};
use zs_model::LanguageModel;
use zs_search::Ledger;
use zs_simulator::{
    RemoteApi, RemoteConfig, RemoteEngine, SimulatedConfig, SimulatedEngine, SimulationTemplates,
};
use zs_world::{Split, World};

use crate::common::python_with;

/// A server of one model that ends with its owner.
struct TransformersServer {
    child: Child,
    port: u16,
}

impl TransformersServer {
    fn start(python: &str, model: &Path) -> Self {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .args(["-m", "transformers.cli.transformers", "serve"])
            .arg(model)
            .args(["--host", "127.0.0.1", "--device", "cpu", "--port", &port.to_string()])
            .env("HF_HUB_OFFLINE", "1")
            .env("CUDA_VISIBLE_DEVICES", "")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        // It listens once the model is loaded.
        for _ in 0..1500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            assert_eq!(ended, None, "the server ended before it listened");
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("the server does not listen");
    }

    fn engine(&self, api: RemoteApi, temperature: f32, ledger: &Arc<Ledger>) -> RemoteEngine {
        let endpoint = format!("http://127.0.0.1:{}/v1", self.port);
        let config =
            RemoteConfig { api, temperature, max_tokens: 80, ..RemoteConfig::new(vec![endpoint]) };
        RemoteEngine::new(config, SimulationTemplates::tiny(), Arc::clone(ledger)).unwrap()
    }
}

impl Drop for TransformersServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn search(engine: &dyn SearchEngine, questions: &[Question], seed: u64) -> Vec<Vec<Document>> {
    let requests: Vec<SearchRequest<'_>> =
        questions.iter().map(|it| SearchRequest::of(it, 3, seed)).collect();
    engine.search_batch(&requests).into_iter().map(Result::unwrap).collect()
}

#[test]
fn transformers_writes_the_documents_that_are_written_here() {
    let Some(python) = python_with("torch, fastapi, uvicorn, transformers.cli.serve") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/zs-tiny");
    let model = LanguageModel::load(&shipped, &Device::flex()).unwrap();
    model.save(folder.path()).unwrap();
    // The model was tuned on bare prompts; what a server needs to chat with it all the same.
    let template = "{{ bos_token }}{% for it in messages %}{{ it.content }}{% endfor %}";
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let server = TransformersServer::start(&python, folder.path());

    let world = World::generate(1, Split::Validation);
    let questions: Vec<Question> =
        world.questions(1, 1, 4).into_iter().map(|it| it.question).collect();
    let sampling =
        SimulatedConfig { temperature: 0.0, max_new_tokens: 80, ..SimulatedConfig::default() };
    let local = SimulatedEngine::new(Arc::new(model), SimulationTemplates::tiny(), sampling);
    let expected = search(&local, &questions, 1);
    for api in [RemoteApi::Completions, RemoteApi::Chat] {
        let ledger = Arc::new(Ledger::default());
        let engine = server.engine(api, 0.0, &ledger);
        assert_eq!(search(&engine, &questions, 1), expected, "{api:?}");
        let usage = ledger.totals()[0].usage;
        assert_eq!((usage.calls, usage.retries), (4, 0));
        assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
        // The temperature is heeded, too.
        let engine = server.engine(api, 1.0, &ledger);
        let sampled = (0..4).map(|seed| search(&engine, &questions[..1], seed).remove(0));
        let texts: BTreeSet<String> = sampled.map(|it| format!("{it:?}")).collect();
        assert!(texts.len() > 1, "{api:?}: {texts:?}");
    }
}
