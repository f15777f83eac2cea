//! `zs model pull`: a model directory of the Hugging Face hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use zs_data::hub::{self, Hub, Item};
use zs_model::ModelConfig;

use super::card::card_text;
use crate::data::Bar;
use crate::session::Session;

/// Arguments of `zs model pull`.
#[derive(Debug, Args)]
pub struct ModelPullArgs {
    /// The repository.
    #[arg(value_name = "OWNER/NAME")]
    pub name: String,
    /// Branch, tag or commit of the repository.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// The directory to put the files into; `models/OWNER--NAME` by default.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Address of the hub.
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co")]
    pub endpoint: String,
}

/// Fetches the files that a model directory needs, and prints its card. A model that cannot be
/// loaded is refused before its weights are fetched.
pub(crate) fn model_pull(args: &ModelPullArgs, session: &Session) -> Result<()> {
    let item = hub::items(&format!("model:{}", args.name))?.remove(0);
    let dir = args.out.clone().unwrap_or_else(|| Path::new("models").join(&item.name));
    let client = Hub::from_env(&args.endpoint)?;
    let mut bar = Bar::new(session.console.as_ref());
    let mut fetch = |item: &Item| hub::download(item, &client, &args.revision, &dir, &mut bar);
    fetch(&Item { files: vec!["config.json".to_owned()], ..item.clone() })
        .context("a model directory is needed; import a GGUF file with `zs model import`")?;
    ModelConfig::from_dir(&dir)?;
    fetch(&item)?;
    let card = card_text(&dir)?;
    session.print(&format!("{}\n{card}", dir.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use burn::tensor::Device;
    use zs_data::digest;
    use zs_data::hub::Manifest;
    use zs_model::LanguageModel;
    use zs_model::testing::{byte_tokenizer, tiny_config};

    use sha1::{Digest, Sha1};

    use super::*;

    /// A hub on this machine with one repository, `o/n`. The first download of the weights breaks off
    /// after 1,000 bytes.
    #[derive(Default)]
    struct StandIn {
        files: Mutex<BTreeMap<String, Vec<u8>>>,
        requests: Mutex<Vec<String>>,
    }

    impl StandIn {
        fn serve(self: &Arc<Self>) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let hub = Arc::clone(self);
            std::thread::spawn(move || {
                listener.incoming().map_while(Result::ok).for_each(|it| hub.answer(it));
            });
            address
        }

        fn answer(&self, mut stream: TcpStream) {
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).unwrap() > 2 {}
            let head = head.to_lowercase();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let range = head.lines().find_map(|it| it.strip_prefix("range: bytes="));
            let start = range.map_or(0, |it| it.trim_end_matches('-').parse().unwrap());
            let is_first = {
                let mut requests = self.requests.lock().unwrap();
                let request = format!("{path} {start}");
                requests.push(request.clone());
                requests.iter().filter(|it| **it == request).count() == 1
            };
            let files = self.files.lock().unwrap();
            let listing = self.listing(&files);
            let body = match path.strip_prefix("/o/n/resolve/c0/") {
                _ if path.starts_with("/api/models/o/n/") => Some(&listing),
                Some(file) => files.get(file),
                None => None,
            };
            let Some(body) = body else {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
                return;
            };
            let (status, length) = (if start > 0 { "206 Partial" } else { "200 OK" }, body.len());
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Range: bytes {start}-{}/{length}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                length - 1,
                length - start
            );
            stream.write_all(head.as_bytes()).unwrap();
            let breaks_off = is_first && start == 0 && path.ends_with("model.safetensors");
            let end = if breaks_off { 1_000 } else { length };
            stream.write_all(&body[start..end]).unwrap();
        }

        fn listing(&self, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
            let siblings: Vec<serde_json::Value> = files
                .iter()
                .map(|(name, bytes)| {
                    let mut blob = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
                    blob.update(bytes);
                    let blob = digest::hexadecimal(&blob.finalize());
                    let mut file = serde_json::json!({
                        "rfilename": name, "size": bytes.len(), "blobId": blob
                    });
                    if name.ends_with(".safetensors") {
                        file["lfs"] = serde_json::json!({
                            "sha256": digest::of_bytes(bytes), "size": bytes.len()
                        });
                    }
                    file
                })
                .collect();
            serde_json::json!({ "sha": "c0", "siblings": siblings }).to_string().into_bytes()
        }

        fn requests(&self) -> Vec<String> {
            std::mem::take(&mut *self.requests.lock().unwrap())
        }
    }

    fn args(endpoint: &str, out: &Path) -> ModelPullArgs {
        ModelPullArgs {
            name: "o/n".to_owned(),
            revision: "main".to_owned(),
            out: Some(out.to_owned()),
            endpoint: endpoint.to_owned(),
        }
    }

    #[test]
    fn a_model_is_fetched_resumed_checked_and_remembered() {
        let scratch = tempfile::tempdir().unwrap();
        let (original, out) = (scratch.path().join("original"), scratch.path().join("out"));
        let device = Device::default();
        let model = LanguageModel::initialize(tiny_config(), byte_tokenizer(), 1, &device);
        model.save(&original).unwrap();
        let hub = Arc::new(StandIn::default());
        for entry in std::fs::read_dir(&original).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            hub.files.lock().unwrap().insert(name, std::fs::read(entry.path()).unwrap());
        }
        for other in ["pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors"] {
            hub.files.lock().unwrap().insert(other.to_owned(), b"other".to_vec());
        }
        let address = hub.serve();

        model_pull(&args(&address, &out), &Session::quiet()).unwrap();
        for entry in std::fs::read_dir(&original).unwrap() {
            let name = entry.unwrap().file_name();
            let read = |dir: &Path| std::fs::read(dir.join(&name)).unwrap();
            assert!(read(&original) == read(&out), "{name:?} differs");
        }
        LanguageModel::load(&out, &device).unwrap();
        let manifest = Manifest::read(&out).unwrap();
        assert_eq!((&manifest.revision[..], manifest.commit.as_deref()), ("main", Some("c0")));
        let requests = hub.requests();
        assert!(requests[1].ends_with("/config.json 0"), "the weights came first: {requests:?}");
        let weights = "/o/n/resolve/c0/model.safetensors";
        assert!(requests.contains(&format!("{weights} 0")), "{requests:?}");
        assert!(requests.contains(&format!("{weights} 1000")), "was not resumed: {requests:?}");
        assert!(!requests.iter().any(|it| it.contains("consolidated")), "{requests:?}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), manifest.files.len() + 1);

        // Both steps ask for the list again, and for nothing else.
        model_pull(&args(&address, &out), &Session::quiet()).unwrap();
        let requests = hub.requests();
        assert!(requests.iter().all(|it| it.starts_with("/api/")), "{requests:?}");
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_model_that_cannot_be_loaded_is_refused_before_its_weights() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        let hub = Arc::new(StandIn::default());
        let address = hub.serve();
        let config = br#"{"architectures":["GPT2LMHeadModel"],"vocab_size":1,"hidden_size":1,
            "intermediate_size":1,"num_hidden_layers":1,"num_attention_heads":1}"#;
        hub.files.lock().unwrap().insert("model.safetensors".to_owned(), vec![0; 2_000]);
        let error = model_pull(&args(&address, &out), &Session::quiet()).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.contains("zs model import") && message.contains("`config.json`"),
            "{message}"
        );
        hub.files.lock().unwrap().insert("config.json".to_owned(), config.to_vec());
        let error = model_pull(&args(&address, &out), &Session::quiet()).unwrap_err().to_string();
        assert!(error.contains("GPT2LMHeadModel is not supported"), "{error}");
        assert!(hub.requests().iter().all(|it| !it.contains("model.safetensors")));
        let mut wrong = args(&address, &out);
        wrong.name = "nobody".to_owned();
        let error = model_pull(&wrong, &Session::quiet()).unwrap_err().to_string();
        assert!(error.contains("write OWNER/NAME"), "{error}");
    }
}
