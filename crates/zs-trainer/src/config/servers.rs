//! Settings of `[rollout.servers]`: servers that the policy is sampled on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zs_model::ComputeDtype;
use zs_search::http::HttpConfig;

use super::{RunFileError, ensure};

/// Longest deadline, in seconds.
const LONGEST_S: f64 = 86_400.0;

/// Place where episodes are sampled; this process without servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutPlace {
    /// Servers that the policy is sampled on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<RolloutServers>,
}

impl RolloutPlace {
    /// True without servers.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.servers.is_none()
    }
}

/// Servers that the policy is sampled on. All serve the same model.
///
/// ```
/// use zs_trainer::config::RolloutServers;
///
/// let text = r#"
/// kind = "zs"
/// urls = ["http://10.0.0.5:8000", "http://10.0.0.6:8000"]
/// weights_dir = "/shared/weights"
/// "#;
/// let servers: RolloutServers = toml::from_str(text)?;
/// assert_eq!((servers.concurrency, servers.max_attempts), (64, 2));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutServers {
    /// Program that serves.
    pub kind: ServerKind,
    /// Addresses for sampling and scoring, without a path.
    pub urls: Vec<String>,
    /// Addresses for replacing weights, one a server; those of `urls` by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin_urls: Vec<String>,
    /// The model's name there; none is sent where it is empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Environment variable that holds the servers' key, where they want one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// Environment variable that holds the key for replacing weights; the servers' key by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_key_variable: Option<String>,
    /// Directory that weights are written to; the servers read it under the same name, or as
    /// `server_weights_dir`.
    pub weights_dir: PathBuf,
    /// Name of `weights_dir` on the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_weights_dir: Option<PathBuf>,
    /// Requests in flight per server.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Seconds for a connection to come about.
    #[serde(default = "default_connect_timeout_s")]
    pub connect_timeout_s: f64,
    /// Seconds for one completion, or one replacement of weights. The rows of a server that takes
    /// longer go to others.
    #[serde(default = "default_request_timeout_s")]
    pub request_timeout_s: f64,
    /// Attempts per request at one server before its rows go to others.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Largest `k3` between a server's log-probabilities of fixed sequences and the trainer's at which
    /// it is admitted; by default 1e-5, and 1e-3 where the products are in bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_probe_k3: Option<f64>,
}

/// Program that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// `zs serve`.
    Zs,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
}

impl ServerKind {
    /// Name of the program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zs => "zs",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
        }
    }
}

fn default_concurrency() -> usize {
    64
}

fn default_connect_timeout_s() -> f64 {
    5.0
}

fn default_request_timeout_s() -> f64 {
    600.0
}

fn default_max_attempts() -> u32 {
    2
}

impl RolloutServers {
    /// Checks every setting, and that the log-probabilities of the servers can be interpreted.
    /// `is_full_softmax`: training samples from the full softmax throughout.
    ///
    /// # Errors
    ///
    /// Fails with the first setting that cannot be used.
    pub(crate) fn check(&self, is_full_softmax: bool) -> Result<(), RunFileError> {
        let key = |name: &str| format!("rollout.servers.{name}");
        let num_servers = self.urls.len();
        ensure(num_servers > 0, &key("urls"), "at least one address", "[]")?;
        let mut urls = self.urls.iter().enumerate();
        let repeated = urls.find(|(at, it)| self.urls[..*at].contains(it));
        ensure(repeated.is_none(), &key("urls"), "different addresses", "one twice")?;
        let num_admin = self.admin_urls.len();
        let is_matched = num_admin == 0 || num_admin == num_servers;
        ensure(is_matched, &key("admin_urls"), "one address per server, or none", num_admin)?;
        if let Some(bound) = self.max_probe_k3 {
            let is_bound = bound.is_finite() && bound > 0.0;
            ensure(is_bound, &key("max_probe_k3"), "above 0", bound)?;
        }
        ensure(self.concurrency > 0, &key("concurrency"), "at least 1", self.concurrency)?;
        let timeouts = [
            ("connect_timeout_s", self.connect_timeout_s),
            ("request_timeout_s", self.request_timeout_s),
        ];
        for (name, seconds) in timeouts {
            let is_deadline = seconds > 0.0 && seconds <= LONGEST_S;
            ensure(is_deadline, &key(name), "above 0 and at most a day", seconds)?;
        }
        ensure(self.max_attempts > 0, &key("max_attempts"), "at least 1", self.max_attempts)?;
        if self.kind != ServerKind::Zs && !is_full_softmax {
            return Err(RunFileError::invalid(format!(
                "`rollout.servers`: {} returns log-probabilities of the full softmax at temperature 1 \
                 alone, and `training.rollout` samples from another distribution; set `temperature` \
                 and `top_p` of `training.rollout` to 1 and remove `training.temperature`, or use \
                 `kind = \"zs\"`",
                self.kind.name()
            )));
        }
        Ok(())
    }

    /// Deadlines, retries and limits of the requests to one server.
    pub(crate) fn http(&self) -> HttpConfig {
        HttpConfig {
            max_in_flight: self.concurrency,
            connect_timeout_s: self.connect_timeout_s,
            read_timeout_s: self.request_timeout_s,
            total_timeout_s: (2.0 * self.request_timeout_s).min(LONGEST_S),
            max_attempts: self.max_attempts,
            backoff_s: 0.2,
            max_backoff_s: 5.0,
            ..HttpConfig::default()
        }
    }

    /// Bound on `k3` for products in some dtype.
    pub(crate) fn probe_bound(&self, compute_dtype: ComputeDtype) -> f64 {
        self.max_probe_k3.unwrap_or(match compute_dtype {
            ComputeDtype::Bf16 => 1e-3,
            ComputeDtype::F32 | ComputeDtype::Auto => 1e-5,
        })
    }

    /// Directory of a version as the servers see it.
    pub(crate) fn dir_there(&self, version: &str) -> PathBuf {
        match &self.server_weights_dir {
            Some(dir) => dir.join(version),
            None => {
                let dir = self.weights_dir.join(version);
                // The servers have other working directories.
                std::path::absolute(&dir).unwrap_or(dir)
            }
        }
    }
}
