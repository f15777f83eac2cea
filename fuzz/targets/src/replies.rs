//! Replies of servers: retrieval, web search, embeddings, reranking, completions.

use std::fmt;
use std::sync::{Arc, Mutex};

use zs_core::{Document, DocumentQuality, Question, SearchEngine, SearchRequest};
use zs_search::http::HttpConfig;
use zs_search::http::testing::{CannedResponse, TestServer, config};
use zs_search::{
    ElasticsearchConfig, ElasticsearchEngine, EmbeddingServerConfig, Ledger, QdrantConfig,
    QdrantEngine, RerankConfig, RerankProtocol, RerankServer, RerankServerConfig, RerankedEngine,
    RetrieverConfig, RetrieverEngine, RetrieverProtocol, WebConfig, WebEngine, WebProvider,
};
use zs_simulator::{RemoteApi, RemoteConfig, RemoteEngine, SimulationTemplates};

/// A server whose reply is set from outside, and its clients.
pub(crate) struct Engines {
    reply: Arc<Mutex<Vec<u8>>>,
    pub(crate) search: Vec<Box<dyn SearchEngine>>,
    pub(crate) completion: Vec<Box<dyn SearchEngine>>,
    _server: TestServer,
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").finish_non_exhaustive()
    }
}

impl Engines {
    /// Asks clients that get `bytes` as the reply.
    pub(crate) fn ask(&self, bytes: &[u8], clients: &[Box<dyn SearchEngine>]) {
        bytes.clone_into(&mut self.reply.lock().expect("no thread panics with it"));
        let question = Question::new("q", "who?", ["Ann"]);
        let quality = DocumentQuality::Useful;
        let request =
            SearchRequest { query: "who", question: &question, quality, read: &[], k: 2, seed: 0 };
        for engine in clients {
            for found in engine.search_batch(std::slice::from_ref(&request)).into_iter().flatten() {
                assert!(found.len() <= 2, "{} gives too many documents", engine.name());
            }
        }
    }

    pub(crate) fn start() -> Self {
        let reply: Arc<Mutex<Vec<u8>>> = Arc::default();
        let shown = Arc::clone(&reply);
        let server = TestServer::start(move |_, _| {
            let bytes = shown.lock().expect("no thread panics with it");
            CannedResponse::ok(&*bytes)
        });
        let url = server.url();
        let http = HttpConfig {
            max_attempts: 1,
            max_reply_bytes: 1 << 20,
            breaker_failures: u32::MAX,
            ..config()
        };
        let search =
            Self::search_engines(&url, &http).expect("addresses of the loopback interface");
        let completion = [RemoteApi::Chat, RemoteApi::Completions].map(|api| {
            let config =
                RemoteConfig { api, http: http.clone(), ..RemoteConfig::new(vec![url.clone()]) };
            let engine = RemoteEngine::new(config, SimulationTemplates::tiny(), Arc::default());
            Box::new(engine.expect("an address of the loopback interface")) as Box<dyn SearchEngine>
        });
        Self { reply, search, completion: completion.into(), _server: server }
    }

    fn search_engines(url: &str, http: &HttpConfig) -> anyhow::Result<Vec<Box<dyn SearchEngine>>> {
        let ledger: Arc<Ledger> = Arc::default();
        let mut engines: Vec<Box<dyn SearchEngine>> = Vec::new();
        for protocol in [RetrieverProtocol::SearchR1, RetrieverProtocol::Zerosearch] {
            let config = RetrieverConfig {
                http: http.clone(),
                ..RetrieverConfig::new(vec![url.to_owned()], protocol)
            };
            engines.push(Box::new(RetrieverEngine::new(config, Arc::clone(&ledger))?));
        }
        let searxng = WebConfig {
            url: Some(url.to_owned()),
            http: http.clone(),
            ..WebConfig::new(WebProvider::Searxng)
        };
        engines.push(Box::new(WebEngine::new(&searxng, Arc::clone(&ledger))?));
        let config =
            ElasticsearchConfig { http: http.clone(), ..ElasticsearchConfig::new(url, "index") };
        engines.push(Box::new(ElasticsearchEngine::new(config, Arc::clone(&ledger))?));
        let embedder = EmbeddingServerConfig {
            http: http.clone(),
            ..EmbeddingServerConfig::new(url, "model")
        };
        let config =
            QdrantConfig { http: http.clone(), ..QdrantConfig::new(url, "collection", embedder) };
        engines.push(Box::new(QdrantEngine::new(config, Arc::clone(&ledger))?));
        for protocol in [RerankProtocol::Jina, RerankProtocol::Tei] {
            let config = RerankServerConfig {
                endpoints: vec![url.to_owned()],
                protocol,
                model: None,
                key_variable: None,
                http: http.clone(),
            };
            let reranker = RerankServer::new(config, Arc::clone(&ledger))?;
            let found = Arc::new(Shelf);
            engines.push(Box::new(RerankedEngine::new(
                found,
                Arc::new(reranker),
                RerankConfig::default(),
                Arc::clone(&ledger),
            )));
        }
        Ok(engines)
    }
}

/// Engine that always finds three documents.
#[derive(Debug)]
struct Shelf;

impl SearchEngine for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<zs_core::SearchResult> {
        let document = |id: &str| Document {
            id: id.to_owned(),
            title: "Oak".to_owned(),
            text: "A tree.".to_owned(),
            score: None,
        };
        requests.iter().map(|_| Ok(["a", "b", "c"].map(document).into())).collect()
    }
}
