//! Settings of reproductions: one job, and claims with their arms.

mod claims;
mod reproduce;

pub use claims::{
    ArmConfig, ArmEngine, ClaimConfig, ClaimMetric, ComparisonConfig, Expectation, PublishedConfig,
    check_claims,
};
pub use reproduce::{AuditConfig, EvaluationConfig, ReproduceConfig, ReproduceWorlds};
