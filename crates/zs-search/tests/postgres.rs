//! A real PostgreSQL, started by the test where it is installed.
#![cfg(all(unix, feature = "postgres"))]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use zs_core::registry::{Registry, Spec};
use zs_core::{Question, SearchEngine, SearchError, SearchRequest};
use zs_search::conformance::check_engine;
use zs_search::{EngineContext, Ledger, PostgresConfig, PostgresEngine, register_engines};

/// The newest `initdb`'s folder, in the search path or where distributions put it.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|it| it.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.into_iter().find(|it| it.join("initdb").is_file() && it.join("postgres").is_file())
}

/// A database server of its own, stopped when dropped.
struct Server {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    /// A user who is not root, whom PostgreSQL refuses.
    as_user: Option<&'static str>,
}

impl Server {
    /// `None`, with a printed reason, where there is no PostgreSQL, or only root to run it.
    fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            println!("skipped: PostgreSQL (initdb, postgres) is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|it| it.stdout == b"0\n");
        let as_user = is_root.then_some("postgres");
        if let Some(user) = as_user {
            let owned = Command::new("chown").arg(user).arg(folder.path()).output();
            let switched = Command::new("runuser").args(["-u", user, "--", "true"]).output();
            if !(owned.unwrap().status.success() && switched.is_ok_and(|it| it.status.success())) {
                println!("skipped: PostgreSQL does not run as root, and there is no user `{user}`");
                return None;
            }
        }
        let server = Self { folder, binaries, as_user };
        let data = server.data();
        server.run("initdb", &["-D", &data, "-U", "zs", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let options = format!("-c listen_addresses= -c fsync=off -k {}", server.dir().display());
        server.run(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &format!("{data}.log"), "-o", &options, "start"],
        );
        Some(server)
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.dir().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.binaries.join(program);
        let mut command = match self.as_user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // A folder that the user may be in; no pipe, which the server would hold open.
        command.current_dir(self.dir()).stdout(std::process::Stdio::null());
        assert!(command.args(arguments).status().unwrap().success(), "{arguments:?}");
    }

    fn config(&self, table: &str) -> PostgresConfig {
        PostgresConfig::new(self.dir().display().to_string(), "postgres", "zs", table)
    }

    /// Passages about films, and a few of other words, in several tables.
    fn fill(&self) {
        let host = self.dir().display().to_string();
        let mut config = postgres::Config::new();
        let mut client =
            config.host(&host).user("zs").dbname("postgres").connect(postgres::NoTls).unwrap();
        client
            .batch_execute(
                "CREATE TABLE passages (id int PRIMARY KEY, title text, text text, words tsvector
                     GENERATED ALWAYS AS (to_tsvector('english', coalesce(title, '') || ' ' || text)) STORED);
                 CREATE INDEX ON passages USING gin (words);
                 INSERT INTO passages SELECT it, 'Film ' || it,
                     'The director of film ' || it % 90 || ' was born in ' || 1900 + it % 70
                     FROM generate_series(0, 599) AS it;
                 INSERT INTO passages VALUES (1000, 'Bamboo', 'Bamboos are grasses.'),
                     (1001, 'Oak', 'A tree, as bamboo is not.'), (1002, NULL, 'bamboo'), (1003, 'Bamboo', ' ');
                 CREATE SCHEMA other;
                 CREATE TABLE other.\"Odd \"\"name\" (pid text, contents text);
                 INSERT INTO other.\"Odd \"\"name\" VALUES ('x', E'\"Éclipse\"\\nLes éclipses de Lune.');
                 CREATE TABLE empty (id int, title text, text text);",
            )
            .unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "stop"]);
    }
}

fn titles(engine: &dyn SearchEngine, query: &str, k: usize) -> Vec<String> {
    let question = Question::new("q", query, ["a"]);
    let found = engine.search(SearchRequest::of(&question, k, 0)).unwrap();
    assert!(found.windows(2).all(|it| it[0].score >= it[1].score));
    found.into_iter().map(|it| format!("{} {}", it.id, it.title)).collect()
}

fn open(config: PostgresConfig) -> PostgresEngine {
    PostgresEngine::new(config, Arc::new(Ledger::default())).unwrap()
}

#[test]
fn a_real_database_is_searched() {
    let Some(server) = Server::start() else { return };
    server.fill();

    // With and without a column of words the same is found; any word may match.
    let plain = open(server.config("passages"));
    let words = Some("words".to_owned());
    let indexed =
        open(PostgresConfig { search_column: words.clone(), ..server.config("passages") });
    for engine in [&plain, &indexed] {
        engine.check().unwrap();
        assert_eq!(titles(engine, "Who directed bamboo & co | (grass)?", 3)[0], "1000 Bamboo");
        assert_eq!(
            titles(engine, "oak bamboo", 9),
            ["1001 Oak", "1002 ", "1003 Bamboo", "1000 Bamboo"]
        );
        assert_eq!(titles(engine, "oak bamboo", 1), ["1001 Oak"]);
        assert_eq!(titles(engine, "the of and", 3), Vec::<String>::new());
        assert_eq!(titles(engine, "films", 20).len(), 20);
        check_engine(engine);
    }

    // Names of any form, and titles in the first line.
    let odd = PostgresConfig {
        id_column: "pid".to_owned(),
        title_column: String::new(),
        text_column: "contents".to_owned(),
        text_search_config: "french".to_owned(),
        ..server.config("other.Odd \"name")
    };
    assert_eq!(titles(&open(odd), "une éclipse", 3), ["x Éclipse"]);

    // By name, as run files choose it, with a wrapper around it.
    let mut registry = Registry::new("search engine");
    register_engines(&mut registry).unwrap();
    let engine = Spec::of(&server.config("passages")).unwrap();
    let spec = Spec::named("retried").with("engine", serde_json::to_value(engine).unwrap());
    let context = EngineContext::new(Arc::default());
    let engine = registry.build(&spec, &context).unwrap();
    assert_eq!(titles(&engine, "grass", 3), ["1000 Bamboo"]);
    assert_eq!(context.ledger().totals()[0].usage.calls, 1);

    check_misfits(&server);
    check_losses(&server, &plain);
}

/// One line for everything that does not fit, when the engine is opened.
fn check_misfits(server: &Server) {
    let check = |change: &dyn Fn(&mut PostgresConfig), expected: &str| {
        let mut config = server.config("passages");
        change(&mut config);
        let message = open(config).check().unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{expected}: {message}");
    };
    check(&|it| it.table = "pasages".to_owned(), "relation \"pasages\" does not exist");
    check(&|it| it.table = "empty".to_owned(), "table `empty`: contains no documents");
    check(
        &|it| it.text_column = "txt".to_owned(),
        "column passages.txt does not exist (Perhaps you meant",
    );
    check(
        &|it| it.search_column = Some("text".to_owned()),
        "ts_rank(text, tsquery, integer) does not exist",
    );
    check(&|it| it.text_search_config = "klingon".to_owned(), "\"klingon\" does not exist");
    check(&|it| it.database = "none".to_owned(), "database \"none\" does not exist");
    check(&|it| it.user = "nobody".to_owned(), "role \"nobody\" does not exist");
    check(&|it| it.port = 1, "error connecting to server");
    let open_host = PostgresConfig {
        host: "db.example.com".to_owned(),
        key_variable: Some("ZS_TEST_NO_SUCH_TOKEN".to_owned()),
        ..server.config("passages")
    };
    let missing = PostgresEngine::new(open_host, Arc::default()).unwrap_err().to_string();
    assert!(missing.contains("`ZS_TEST_NO_SUCH_TOKEN` holds no key"), "{missing}");
}

/// Connections that are cut are opened anew; a server that is gone is out of reach.
fn check_losses(server: &Server, engine: &PostgresEngine) {
    let question = Question::new("q", "grass", ["a"]);
    let request = SearchRequest::of(&question, 3, 0);
    let restart = ["-D", &server.data(), "-w", "-m", "fast"];
    let log = format!("{}.log", server.data());
    let options = format!("-c listen_addresses= -k {}", server.dir().display());
    server.run("pg_ctl", &[&restart[..], &["-l", &log, "-o", &options, "restart"]].concat());
    // The first search may meet a connection that is not known to be closed yet.
    let attempts: Vec<_> = (0..6).map(|_| engine.search(request)).collect();
    assert!(attempts.last().unwrap().is_ok(), "{attempts:?}");
    let is_transient = |it: &SearchError| it.is_transient();
    assert!(attempts.iter().filter_map(|it| it.as_ref().err()).all(is_transient), "{attempts:?}");
    server.run("pg_ctl", &[&restart[..], &["stop"]].concat());
    let results: Vec<_> = (0..6).map(|_| engine.search(request).unwrap_err()).collect();
    assert!(results.iter().all(SearchError::is_transient), "{results:?}");
    server.run("pg_ctl", &["-D", &server.data(), "-w", "-l", &log, "-o", &options, "start"]);
    assert!(engine.search(request).is_ok());
}
