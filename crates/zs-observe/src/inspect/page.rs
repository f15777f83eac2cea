//! The page: a template, and the episodes compressed into it.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};
use zs_core::registry::BoxedError;
use zs_search::EngineCost;

use super::curves::figures;
use super::data::Episodes;
use crate::content_policy;
use zs_trainer::Metrics;
use zs_trainer::alarm::AlarmRecord;

const TEMPLATE: &str = include_str!("inspect.html.jinja");
const STYLE: &str = include_str!("inspect.css");
const SCRIPT: &str = include_str!("inspect.js");

/// Contents of the page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) name: PathBuf,
    pub(super) metrics: Vec<Metrics>,
    pub(super) timings: Vec<Metrics>,
    /// Nothing where the run wrote no alarms.
    pub(super) alarms: Option<Vec<AlarmRecord>>,
    /// `config.toml` as it stands there.
    pub(super) config: Option<String>,
    /// `summary.json` as it stands there; an interrupted run has none.
    pub(super) summary: Option<String>,
    pub(super) costs: Vec<EngineCost>,
    pub(super) episodes: Episodes,
    pub(super) num_recorded: usize,
}

impl Page {
    /// Draws the page.
    pub(super) fn render(&self) -> Result<String, BoxedError> {
        let alarms = self.alarms.as_deref().unwrap_or_default();
        let rows = [&self.metrics[..], &self.timings].concat();
        let summary = self.summary.as_deref().map(serde_json::from_str::<Value>).transpose();
        let summary = summary.map_err(|error| format!("summary.json: {error}"))?;
        let name = self.name.file_name().unwrap_or(self.name.as_os_str()).to_string_lossy();
        let last_step = self.metrics.iter().filter_map(Metrics::step).max().unwrap_or(0);
        let latest = |key: &str| self.metrics.iter().rev().find_map(|it| it.get(key));
        let spans: Vec<Value> = spans(alarms)
            .into_iter()
            .map(|(it, until)| {
                json!({
                    "alarm": it.alarm, "since": it.since, "until": until, "value": it.value,
                    "threshold": it.threshold, "message": it.message,
                })
            })
            .collect();
        let data = json!({ "alarms": &spans, "episodes": &self.episodes });

        let mut environment = Environment::new();
        environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
        environment.add_template("inspect.html", TEMPLATE)?;
        let page = environment.get_template("inspect.html")?.render(context! {
            version => env!("CARGO_PKG_VERSION"),
            name => name,
            last_step => last_step,
            reward => latest("reward/mean"),
            exact_match => latest("validation/exact_match"),
            searches => latest("rollout/num_searches"),
            summary => Serde(&summary),
            figures => Serde(figures(&rows, alarms)?),
            alarms => Serde(&spans),
            has_alarms_file => self.alarms.is_some(),
            config => &self.config,
            costs => Serde(&self.costs),
            num_shown => self.episodes.len(),
            num_recorded => self.num_recorded,
            policy => content_policy(&[SCRIPT], &[STYLE]),
            style => STYLE,
            script => SCRIPT,
            data => packed(&serde_json::to_vec(&data)?)?,
        })?;
        Ok(page)
    }
}

/// Every alarm from where it was raised to the last step that it was on.
fn spans(alarms: &[AlarmRecord]) -> Vec<(&AlarmRecord, usize)> {
    let mut spans: Vec<(&AlarmRecord, usize)> = Vec::new();
    for record in alarms {
        let same = |it: &&mut (&AlarmRecord, usize)| {
            (it.0.alarm, it.0.since) == (record.alarm, record.since)
        };
        match spans.iter_mut().find(same) {
            Some((_, until)) => *until = record.step,
            None => spans.push((record, record.step)),
        }
    }
    spans
}

/// Bytes as text that a page can hold.
fn packed(bytes: &[u8]) -> std::io::Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(STANDARD.encode(encoder.finish()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use flate2::read::GzDecoder;
    use zs_core::{Action, DocumentQuality, Question};
    use zs_model::testing::byte_tokenizer;
    use zs_model::{Completion, StopReason};
    use zs_rl::{RewardScore, RewardedTrajectory, SearchRecord, Trajectory, TrajectoryGroup, Turn};

    use super::*;
    use zs_trainer::RecordedGroup;
    use zs_trainer::alarm::Alarm;

    fn recorded() -> RecordedGroup {
        let text = "é</script>";
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        let mut trajectory = Trajectory::new("q", vec![65, 66]);
        trajectory.turns.push(Turn {
            completion: Completion {
                log_probs: vec![-0.25; tokens.len()],
                tokens,
                sampling_log_probs: None,
                stop_reason: StopReason::Stop,
            },
            text: text.to_owned(),
            action: Action::Search("s".to_owned()),
            observation: vec![67],
            observation_text: "C".to_owned(),
            search: Some(SearchRecord {
                query: "s".to_owned(),
                quality: DocumentQuality::Noisy,
                documents: Vec::new(),
                error: Some("down".to_owned()),
            }),
        });
        let reward = RewardScore { total: 0.5, components: Vec::new(), turns: Vec::new() };
        let question = Question::new("q", "<b>who?", ["a"]);
        let trajectories = vec![RewardedTrajectory { trajectory, reward }];
        let group = TrajectoryGroup { question, trajectories };
        // Prompt, what the policy wrote, observation.
        let mut advantages = vec![0.0; 2 + text.len() + 1];
        advantages[2..2 + text.len()].fill(0.5);
        let advantages = vec![advantages];
        RecordedGroup {
            step: 2,
            noise_probability: 0.25,
            dropped: false,
            group,
            advantages,
            teacher_log_probs: Vec::new(),
        }
    }

    fn page(by_token: bool) -> Page {
        let mut episodes = Episodes::default();
        let tokenizer = byte_tokenizer();
        episodes.add(Path::new("run"), &recorded(), by_token.then_some(&tokenizer)).unwrap();
        let alarm = |step| AlarmRecord {
            step,
            alarm: Alarm::SearchCap,
            value: 4.0,
            threshold: 3.8,
            since: 2,
            message: "too <many>".to_owned(),
        };
        let mut metrics = Metrics::of_step(2);
        metrics.set("reward/mean", 0.5);
        Page {
            name: "runs/<a>".into(),
            metrics: vec![metrics],
            timings: Vec::new(),
            alarms: Some(vec![alarm(2), alarm(3)]),
            config: Some("seed = 1 # </pre>".to_owned()),
            summary: None,
            costs: Vec::new(),
            episodes,
            num_recorded: 1,
        }
    }

    /// The data that the page's script reads.
    fn data(page: &str) -> Value {
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let packed = page[start..].split('<').next().unwrap();
        let mut text = String::new();
        let bytes = STANDARD.decode(packed.trim()).unwrap();
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_page_is_self_contained_and_escapes_what_models_wrote() {
        let page = page(true).render().unwrap();
        assert!(page.contains("&lt;a&gt;") && page.contains("too &lt;many&gt;"));
        assert!(page.contains("seed = 1 # &lt;"), "the config is escaped");
        assert_eq!(page.matches("</script>").count(), 2, "nothing ends a script early");
        for external in ["http:", "https:", "@import", "url(", "<link", " src="] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(external);
            assert!(!found, "{external}");
        }
    }

    /// The text between the tags of the only element of this name without attributes.
    fn inline<'a>(page: &'a str, name: &str) -> &'a str {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        assert_eq!(page.matches(&open).count(), 1, "{name}");
        page.split_once(&open).unwrap().1.split_once(&close).unwrap().0
    }

    /// A browser runs the page's own script and style, and no markup of documents or settings: neither
    /// elements nor attributes, which the policy forbids even where one came in unescaped.
    #[test]
    fn nothing_but_the_page_s_own_script_and_style_counts() {
        const HOSTILE: &str = "</script></pre><script src=//evil.test/x.js></script><img src=x \
            onerror=alert(1)><style>*{}</style><a href='javascript:alert(1)' style='x'>";
        let mut hostile = page(true);
        hostile.name = HOSTILE.replace('/', ":").into();
        hostile.config = Some(HOSTILE.to_owned());
        hostile.alarms.as_mut().unwrap()[0].message = HOSTILE.to_owned();
        hostile.summary = Some(json!({ "stopped": HOSTILE, "engine": HOSTILE }).to_string());
        let mut recorded = recorded();
        recorded.group.question = Question::new("q", HOSTILE, [HOSTILE]);
        recorded.group.trajectories[0].trajectory.turns[0].observation_text = HOSTILE.to_owned();
        hostile.episodes.add(Path::new("run"), &recorded, None).unwrap();
        let rendered = hostile.render().unwrap();
        let policy = content_policy(&[inline(&rendered, "script")], &[inline(&rendered, "style")]);
        let head = rendered.split_once("<title>").unwrap().0;
        let unescaped = head.replace("&#x27;", "'").replace("&#x2f;", "/");
        assert!(unescaped.contains(&format!("content=\"{policy}\"")), "{head}");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("data:"), "{policy}");
        for found in ["<img", "<script src", "<a href='", " style=\""] {
            assert!(!rendered.contains(found), "{found}");
        }
        // What the script shows, it sets as text.
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "\"style\""]
        {
            assert!(!SCRIPT.contains(sink), "{sink}");
        }
    }

    #[test]
    fn episodes_are_told_token_by_token() {
        let data = data(&page(true).render().unwrap());
        assert_eq!(data["alarms"][0]["until"], 3);
        let episodes = &data["episodes"];
        let episode = &episodes["episodes"][0];
        assert_eq!((&episode["s"], &episode["r"]), (&json!(2), &json!(500)));
        let segments = episode["g"].as_array().unwrap();
        let authors: Vec<&str> = segments.iter().map(|it| it["p"].as_str().unwrap()).collect();
        assert_eq!(authors, ["prompt", "policy", "observation"]);
        let text = |segment: &Value| -> String {
            let ids = segment["t"].as_array().unwrap().iter();
            let piece = |it: &Value| episodes["pieces"][it.as_u64().unwrap() as usize].clone();
            ids.map(|it| piece(it).as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(text(&segments[1]), "é</script>");
        // The two bytes of `é` are two tokens; the second carries the character.
        assert_eq!(segments[1]["t"].as_array().unwrap().len(), "é</script>".len());
        assert_eq!(segments[1]["l"][0], -250);
        // Equal advantages are one number.
        assert_eq!(segments[1]["a"], json!([500]));
        assert!(segments[2].get("a").is_none());
        assert_eq!(segments[2]["h"]["quality"], "noisy");
        assert_eq!(segments[2]["h"]["error"], "down");
    }

    #[test]
    fn without_a_tokenizer_turns_are_told_as_text() {
        let data = data(&page(false).render().unwrap());
        assert_eq!(data["episodes"]["by_token"], false);
        let pieces = data["episodes"]["pieces"].as_array().unwrap();
        assert!(pieces.contains(&json!("é</script>")) && pieces.contains(&json!("[2 tokens]")));
        assert_eq!(data["episodes"]["episodes"][0]["g"][1]["l"], json!([-250]));
    }
}
