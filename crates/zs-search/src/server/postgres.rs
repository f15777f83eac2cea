//! PostgreSQL: full text search of a table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use garde::Validate;
use parking_lot::Mutex;
use postgres::error::SqlState;
use postgres::{Client, NoTls, Row, Statement};
use serde::{Deserialize, Serialize};
use zs_core::registry::check;
use zs_core::{Document, EngineScope, SearchEngine, SearchError, SearchRequest, SearchResult};

use super::elasticsearch::{default_text_field, default_title_field};
use super::{ServerError, answer_all};
use crate::http::{ApiKey, is_private_host};
use crate::retriever::served;
use crate::{Ledger, parallel};

const NAME: &str = "postgres";

/// Settings of a searched table. The password is not part of it: it comes from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct PostgresConfig {
    /// Host, or the directory of the server's socket.
    pub host: String,
    /// Port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Table or view, after its schema and a dot where it is in another one than the user's.
    pub table: String,
    /// Column of identifiers.
    #[serde(default = "default_id_column")]
    pub id_column: String,
    /// Column of titles; empty where the first line of the text is the title.
    #[serde(default = "default_title_field")]
    pub title_column: String,
    /// Column of texts.
    #[serde(default = "default_text_field")]
    pub text_column: String,
    /// Column of type `tsvector`, best with a GIN index; without one, titles and texts are analysed
    /// at every search.
    #[serde(default)]
    pub search_column: Option<String>,
    /// Text search configuration of queries, and of texts without a `search_column`.
    #[serde(default = "default_text_search_config")]
    pub text_search_config: String,
    /// Environment variable that holds the password, e.g. `POSTGRES_TOKEN`; without one, none is sent.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// Connections at once.
    #[serde(default = "default_max_connections")]
    #[garde(custom(check::at_least_one))]
    pub max_connections: usize,
    /// Seconds for a connection, and for a search.
    #[serde(default = "default_timeout_s")]
    #[garde(custom(check::positive))]
    pub timeout_s: f64,
}

fn default_port() -> u16 {
    5432
}

fn default_id_column() -> String {
    "id".to_owned()
}

fn default_text_search_config() -> String {
    "english".to_owned()
}

fn default_max_connections() -> usize {
    4
}

fn default_timeout_s() -> f64 {
    60.0
}

impl PostgresConfig {
    /// A table of a database with default settings.
    #[must_use]
    pub fn new(
        host: impl Into<String>,
        database: impl Into<String>,
        user: impl Into<String>,
        table: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port: default_port(),
            database: database.into(),
            user: user.into(),
            table: table.into(),
            id_column: default_id_column(),
            title_column: default_title_field(),
            text_column: default_text_field(),
            search_column: None,
            text_search_config: default_text_search_config(),
            key_variable: None,
            max_connections: default_max_connections(),
            timeout_s: default_timeout_s(),
        }
    }

    /// The search: parameters are query, configuration and number of documents.
    ///
    /// Any word of the query may match, as in other engines: `plainto_tsquery` joins them by `&`, and
    /// that of its text, which stands between blanks there alone, becomes `|`.
    fn search(&self) -> String {
        let column = |name: &str| format!("passages.{}", quoted(name));
        let (id, text) = (column(&self.id_column), column(&self.text_column));
        let title = match self.title_column.as_str() {
            "" => "''".to_owned(),
            title => column(title),
        };
        let vector = match &self.search_column {
            Some(name) => column(name),
            None => format!(
                "to_tsvector($2::text::regconfig, concat_ws(' ', {title}::text, {text}::text))"
            ),
        };
        let table = self.table();
        format!(
            "WITH asked AS (SELECT replace(plainto_tsquery($2::text::regconfig, $1::text)::text, \
             ' & ', ' | ')::tsquery AS words) \
             SELECT coalesce({id}::text, '') AS id, coalesce({title}::text, '') AS title, \
             coalesce({text}::text, '') AS text, ts_rank({vector}, asked.words, 1) AS score \
             FROM {table} AS passages, asked WHERE {vector} @@ asked.words \
             ORDER BY score DESC, {id} LIMIT $3::bigint"
        )
    }

    fn table(&self) -> String {
        self.table.split('.').map(quoted).collect::<Vec<_>>().join(".")
    }
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Search by PostgreSQL's full text search, a statement a query.
///
/// Scores are those of `ts_rank(.., 1)`: how often the words of a query occur, by the logarithm of the
/// length. They are not BM25, since PostgreSQL does not know how rare a word is in a table. Equal scores
/// are in the order of identifiers. Blank queries find nothing and are not sent.
///
/// Connections are not encrypted: a password is sent to this machine and private networks alone.
///
/// # References
///
/// - PostgreSQL, [Full Text Search](https://www.postgresql.org/docs/current/textsearch-controls.html)
pub struct PostgresEngine {
    config: PostgresConfig,
    connection: postgres::Config,
    search: String,
    place: String,
    idle: Mutex<Vec<Connection>>,
    ledger: Arc<Ledger>,
}

struct Connection {
    client: Client,
    search: Statement,
}

impl PostgresEngine {
    /// An engine over the table of a configuration; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Fails, naming the variable, when the environment has no password, and when one would be sent
    /// unencrypted beyond private networks.
    pub fn new(config: PostgresConfig, ledger: Arc<Ledger>) -> Result<Self, ServerError> {
        let PostgresConfig { host, database, table, .. } = &config;
        let place = format!("{NAME} {host} {database}, table `{table}`");
        let timeout = Duration::try_from_secs_f64(config.timeout_s).unwrap_or(Duration::MAX);
        let mut connection = postgres::Config::new();
        connection
            .host(host)
            .port(config.port)
            .dbname(database)
            .user(&config.user)
            .application_name("zs")
            .connect_timeout(timeout)
            .options(&format!("-c statement_timeout={}", timeout.as_millis().min(1 << 30)));
        if let Some(variable) = &config.key_variable {
            let key = ApiKey::from_env(variable);
            let key = key.map_err(|error| ServerError::Http {
                place: place.clone(),
                source: Arc::new(error),
            })?;
            if !host.starts_with('/') && !is_private_host(host) {
                return Err(ServerError::PlainPassword { host: host.clone() });
            }
            connection.password(key.expose());
        }
        let search = config.search();
        Ok(Self { config, connection, search, place, idle: Mutex::default(), ledger })
    }

    /// Connects, prepares the search and carries it out once.
    ///
    /// # Errors
    ///
    /// Fails when the server is out of reach, table, columns or configuration are not there, or the
    /// table holds nothing.
    pub fn check(&self) -> Result<(), ServerError> {
        let failed = |error: postgres::Error| ServerError::Database {
            place: self.place.clone(),
            message: message(&error),
        };
        let mut connection = self.connect().map_err(failed)?;
        let any = format!("SELECT 1 FROM {} LIMIT 1", self.config.table());
        if connection.client.query(&any, &[]).map_err(failed)?.is_empty() {
            return Err(ServerError::Empty { place: self.place.clone() });
        }
        self.query(&mut connection, "word", 1).map_err(failed)?;
        self.idle.lock().push(connection);
        Ok(())
    }

    fn connect(&self) -> Result<Connection, postgres::Error> {
        let mut client = self.connection.connect(NoTls)?;
        let search = client.prepare(&self.search)?;
        Ok(Connection { client, search })
    }

    fn query(
        &self,
        connection: &mut Connection,
        query: &str,
        k: usize,
    ) -> Result<Vec<Row>, postgres::Error> {
        // PostgreSQL's texts hold no such character.
        let query = query.replace('\0', " ");
        let limit = i64::try_from(k).unwrap_or(i64::MAX);
        let config = &self.config.text_search_config;
        connection.client.query(&connection.search, &[&query, config, &limit])
    }

    /// Searches on an idle or a new connection.
    fn rows(&self, request: &SearchRequest<'_>) -> Result<Vec<Row>, postgres::Error> {
        let idle = self.idle.lock().pop().filter(|it| !it.client.is_closed());
        let mut connection = idle.map_or_else(|| self.connect(), Ok)?;
        let rows = self.query(&mut connection, request.query, request.k);
        if !connection.client.is_closed() {
            self.idle.lock().push(connection);
        }
        rows
    }

    fn answer(&self, request: &SearchRequest<'_>) -> SearchResult {
        let start = Instant::now();
        let rows = self.rows(request);
        self.ledger.record_call(NAME, start.elapsed(), |usage| {
            usage.failed_calls += u64::from(rows.is_err());
        });
        let of_engine = |source: String| SearchError::Engine {
            engine: NAME.to_owned(),
            query: request.query.to_owned(),
            source: source.into(),
        };
        let rows = rows.map_err(|error| match may_pass(&error) {
            true => {
                SearchError::Unreachable { engine: NAME.to_owned(), source: message(&error).into() }
            }
            false => of_engine(message(&error)),
        })?;
        let documents = rows.iter().map(|row| self.document(row)).collect::<Result<_, _>>();
        documents.map_err(of_engine)
    }

    fn document(&self, row: &Row) -> Result<Document, String> {
        let text_of = |column: &str| -> Result<String, String> {
            row.try_get(column).map_err(|error| message(&error))
        };
        let (id, title, text) = (text_of("id")?, text_of("title")?, text_of("text")?);
        let score: f32 = row.try_get("score").map_err(|error| message(&error))?;
        let (title, text) = match self.config.title_column.as_str() {
            "" => Document::split_contents(&text),
            _ => (title.as_str(), text.as_str()),
        };
        served(id, title, text, Some(score))
    }
}

impl SearchEngine for PostgresEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn search_batch(&self, requests: &[SearchRequest<'_>]) -> Vec<SearchResult> {
        answer_all(requests, |requests| {
            parallel::for_each(self.config.max_connections, requests, |it| self.answer(it))
        })
    }

    fn is_deterministic(&self) -> bool {
        false
    }

    fn scope(&self) -> EngineScope {
        EngineScope::Query
    }
}

impl std::fmt::Debug for PostgresEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresEngine").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Message of the database, or of the connection to it, on one line.
fn message(error: &postgres::Error) -> String {
    let message = match error.as_db_error() {
        Some(error) => {
            let hint = error.hint().map(|it| format!(" ({it})")).unwrap_or_default();
            format!("{}{hint}", error.message())
        }
        None => zs_core::with_causes(error),
    };
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns true if the same search may succeed later: the server is away, full or slow.
fn may_pass(error: &postgres::Error) -> bool {
    let Some(state) = error.code() else { return true };
    // Classes: connections, resources, intervention of an operator, which timeouts are.
    *state == SqlState::QUERY_CANCELED
        || ["08", "53", "57"].iter().any(|class| state.code().starts_with(class))
}
