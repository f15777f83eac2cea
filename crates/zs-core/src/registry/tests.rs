use garde::Validate;
use serde::{Deserialize, Serialize};

use super::*;

/// Settings that two kinds share.
#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(default)]
struct Shared {
    #[garde(custom(check::non_negative))]
    kl_coef: f64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { kl_coef: 0.25 }
    }
}

#[derive(Debug, Default, Serialize, Deserialize, Validate)]
#[serde(default)]
struct Leaf {
    #[garde(custom(check::at_least_one))]
    size: usize,
    #[serde(flatten)]
    #[garde(dive)]
    shared: Shared,
    #[garde(skip)]
    path: Option<PathBuf>,
}

impl Settings for Leaf {
    const KIND: &'static str = "leaf";

    fn check(&self) -> Result<(), SettingsError> {
        Ok(self.validate()?)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.path.iter().cloned().collect()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Wrapped {
    inner: Spec,
    #[serde(default)]
    others: Vec<Spec>,
}

impl Settings for Wrapped {
    const KIND: &'static str = "wrapped";

    fn nested(&self) -> Vec<String> {
        let others = (0..self.others.len()).map(|index| format!("others.{index}"));
        std::iter::once("inner".to_owned()).chain(others).collect()
    }
}

fn registry() -> Registry<f64, f64> {
    let mut registry = Registry::new("part");
    registry.register(|it: Leaf, scale: &f64, _| Ok(it.size as f64 * scale)).unwrap();
    let wrapped = |it: Wrapped, scale: &f64, registry: &Registry<f64, f64>| {
        let mut sum = registry.build(&it.inner, scale)?;
        for other in &it.others {
            sum += registry.build(other, scale)?;
        }
        Ok(sum)
    };
    registry.register(wrapped).unwrap();
    registry
}

fn spec(json: &str) -> Spec {
    serde_json::from_str(json).unwrap()
}

#[test]
fn nested_components_are_built_with_the_context() {
    let json = r#"{"kind":"wrapped","inner":{"kind":"leaf","size":2},
                   "others":[{"kind":"leaf","size":3},{"kind":"leaf","size":4}]}"#;
    assert_eq!(registry().build(&spec(json), &10.0).unwrap(), 90.0);
}

#[test]
fn defaults_are_filled_in_at_every_depth() {
    let json = r#"{"kind":"wrapped","inner":{"kind":"leaf","size":2},"others":[{"kind":"leaf","size":1,"path":"a"}]}"#;
    let resolved = registry().resolve(&spec(json)).unwrap();
    assert_eq!(resolved.settings["inner"]["kl_coef"], 0.25);
    assert_eq!(resolved.settings["others"][0]["kl_coef"], 0.25);
    assert_eq!(registry().resolve(&resolved).unwrap(), resolved, "a resolved one stays as it is");
    assert_eq!(registry().inputs(&resolved).unwrap(), [PathBuf::from("a")]);
}

#[track_caller]
fn check_refused(json: &str, message: &str, key: Option<&str>) {
    let error = registry().resolve(&spec(json)).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(error.key().as_deref(), key);
}

#[test]
fn mistakes_are_named() {
    check_refused(
        r#"{"kind":"laef"}"#,
        "unknown part `laef` (did you mean `leaf`?), expected one of `leaf`, `wrapped`",
        None,
    );
    check_refused(
        r#"{"kind":"leaf","size":1,"kl_coeff":0.1}"#,
        "unknown setting `kl_coeff` of part `leaf` (did you mean `kl_coef`?)",
        Some("kl_coeff"),
    );
    check_refused(
        r#"{"kind":"wrapped","inner":{"kind":"leaf","size":1,"color":1}}"#,
        "unknown setting `color` of part `leaf`, expected one of `size`, `kl_coef`, `path`",
        Some("inner.color"),
    );
    check_refused(
        r#"{"kind":"leaf","size":0}"#,
        "`size` of part `leaf` must be at least 1, is 0",
        Some("size"),
    );
    check_refused(
        r#"{"kind":"leaf","size":1,"kl_coef":-1}"#,
        "`kl_coef` of part `leaf` must be finite and not negative, is -1",
        Some("kl_coef"),
    );
    check_refused(
        r#"{"kind":"leaf","size":"x"}"#,
        "part `leaf`: invalid type: string \"x\", expected usize",
        None,
    );
    check_refused(r#"{"kind":"wrapped"}"#, "part `wrapped`: missing field `inner`", None);
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    weight: f64,
}

impl Settings for Strict {
    const KIND: &'static str = "strict";
}

#[test]
fn unknown_fields_of_strict_settings_are_unknown_settings() {
    let error = spec(r#"{"kind":"strict","weigth":1.0}"#).parse::<Strict>().unwrap_err();
    let nearest = Some("weight".to_owned());
    let known = vec!["weight".to_owned()];
    assert_eq!(error, SettingsError::Unknown { key: "weigth".to_owned(), nearest, known });
}

#[test]
fn an_empty_registry_says_so() {
    let empty: Registry<f64> = Registry::new("part");
    let error = empty.resolve(&Spec::named("leaf")).unwrap_err();
    assert_eq!(error.to_string(), "unknown part `leaf`, and none is registered");
}

#[test]
fn a_name_is_registered_once() {
    let mut registry = registry();
    let error = registry.register(|_: Leaf, _: &f64, _| Ok(0.0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "part `leaf` is registered already; register yours under another name"
    );
}

#[test]
fn a_failing_constructor_is_named() {
    let mut registry: Registry<f64> = Registry::new("part");
    registry.register(|_: Leaf, (): &(), _| Err("no such file".into())).unwrap();
    let error = registry.build(&spec(r#"{"kind":"leaf","size":1}"#), &()).unwrap_err();
    assert_eq!(error.to_string(), "cannot build part `leaf`");
    assert_eq!(error.source().unwrap().to_string(), "no such file");
}

#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Point,
    Round {
        #[garde(custom(check::positive))]
        radius: f32,
    },
}

/// Settings whose defaults differ from those of the group that they share.
#[derive(Debug, Serialize, Deserialize, Validate)]
struct Own {
    #[serde(flatten)]
    #[garde(dive)]
    shared: Shared,
    #[garde(dive)]
    shapes: Vec<Shape>,
    #[garde(custom(check::fraction))]
    share: f32,
}

impl Default for Own {
    fn default() -> Self {
        let shapes = vec![Shape::Point, Shape::Round { radius: 1.0 }];
        Self { shared: Shared { kl_coef: 0.5 }, shapes, share: 0.1 }
    }
}

crate::settings!(Own, "own");

#[derive(Debug, Serialize, Deserialize)]
struct Outer {
    #[serde(deserialize_with = "with_defaults")]
    own: Own,
}

impl Settings for Outer {
    const KIND: &'static str = "outer";
}

#[test]
fn a_kind_has_defaults_of_its_own_for_what_it_shares() {
    let own: Own = Spec::named("own").with("share", 0.25).parse().unwrap();
    assert_eq!((own.shared.kl_coef, own.share), (0.5, 0.25));
    let outer: Outer = spec(r#"{"kind":"outer","own":{"share":0.25}}"#).parse().unwrap();
    assert_eq!((outer.own.shared.kl_coef, outer.own.share), (0.5, 0.25));
    let of = Spec::of(&Own::default()).unwrap();
    assert_eq!(serde_json::to_string(&of.settings["share"]).unwrap(), "0.1");
}

#[test]
fn variants_and_items_are_part_of_the_key() {
    let own = |shapes: serde_json::Value| Spec::named("own").with("shapes", shapes).parse::<Own>();
    let error = own(serde_json::json!([{ "round": { "radius": -1 } }])).unwrap_err();
    assert_eq!(error.key(), Some("shapes[0].round.radius"));
    let error = own(serde_json::json!([{ "round": { "radius": 1, "x": 1 } }])).unwrap_err();
    assert_eq!(error.key(), Some("shapes.0.round.x"));
    let error = Spec::named("own").with("kl_coef", -1).parse::<Own>().unwrap_err();
    assert_eq!(error.key(), Some("kl_coef"));
}
