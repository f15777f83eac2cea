#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zs_fuzz_harnesses::run("text_files", bytes));
