//! Everything from the outside: the command `zs` on models, data and servers, and whole runs.
//!
//! One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aided_run;
mod audit;
mod bad_input;
mod before;
mod claims;
mod cold_start;
mod common;
mod custom_algorithm;
mod dense;
mod devices;
mod durability;
mod evaluation;
mod example_manifests;
mod faults;
mod inspect;
mod interrupted;
mod library;
mod metric_docs;
mod odd_files;
mod openai_client;
mod other_servers;
mod own_documents;
mod pages;
mod real_input;
mod real_preset;
mod resume;
mod search_and_cost;
mod serve;
mod serve_attacks;
mod serve_health;
mod serve_json;
mod serve_weights;
mod servers;
mod simulate;
mod teacher;
mod tiny_run;
mod transformers_server;
mod tuning;
