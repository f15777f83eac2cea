//! Dependencies held against published advisories and the rules of `deny.toml`, where the tools and their
//! database can be had.

use xshell::{Shell, cmd};

/// A tool, its arguments, and what it calls a database that cannot be fetched.
struct Tool {
    name: &'static str,
    /// Subcommand that fetches the database and checks nothing; where it fails, there is no database.
    fetch: &'static [&'static str],
    check: &'static [&'static str],
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "deny",
        fetch: &["deny", "--workspace", "fetch", "db"],
        check: &["deny", "--workspace", "--locked", "check", "--disable-fetch"],
    },
    // `cargo audit` reads the lock file alone, and has no subcommand that only fetches.
    Tool { name: "audit", fetch: &["audit", "--quiet", "--json"], check: &["audit", "--no-fetch"] },
];

/// Outcome of looking for the tools.
#[derive(Debug, PartialEq)]
enum Chosen {
    Check(&'static [&'static str]),
    Skip(String),
}

/// Runs the first tool that is installed and has its database, or says why none is run.
pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    let succeeds = |arguments: &[&str]| {
        let run = cmd!(sh, "cargo {arguments...}").quiet().ignore_stdout().ignore_stderr();
        run.run().is_ok()
    };
    let has_database = |tool: &Tool| match tool.name {
        // It fails where there are advisories, too: its report then says so.
        "audit" => {
            let arguments = tool.fetch;
            let run = cmd!(sh, "cargo {arguments...}").quiet().ignore_stderr().ignore_status();
            run.read().is_ok_and(|it| it.contains("\"vulnerabilities\""))
        }
        _ => succeeds(tool.fetch),
    };
    match choose(|tool| succeeds(&[tool.name, "--version"]), has_database) {
        Chosen::Check(arguments) => Ok(cmd!(sh, "cargo {arguments...}").run()?),
        Chosen::Skip(reason) => {
            eprintln!("skipped: {reason}");
            Ok(())
        }
    }
}

fn choose(is_installed: impl Fn(&Tool) -> bool, has_database: impl Fn(&Tool) -> bool) -> Chosen {
    let installed: Vec<&Tool> = TOOLS.iter().filter(|it| is_installed(it)).collect();
    match installed.iter().find(|it| has_database(it)) {
        Some(tool) => Chosen::Check(tool.check),
        None if installed.is_empty() => {
            let remedy = "`cargo install cargo-deny` to check dependencies against advisories";
            Chosen::Skip(format!("neither cargo-deny nor cargo-audit is installed; {remedy}"))
        }
        None => Chosen::Skip("the database of advisories cannot be fetched".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(installed: &[&str], with_database: &[&str], expected: Result<&str, &str>) {
        let chosen =
            choose(|it| installed.contains(&it.name), |it| with_database.contains(&it.name));
        match (chosen, expected) {
            (Chosen::Check(arguments), Ok(tool)) => assert_eq!(arguments[0], tool),
            (Chosen::Skip(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (chosen, expected) => panic!("{chosen:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_first_tool_with_a_database_is_run_and_a_skip_has_a_reason() {
        check(&["deny", "audit"], &["deny", "audit"], Ok("deny"));
        check(&["deny", "audit"], &["audit"], Ok("audit"));
        check(&["audit"], &["deny", "audit"], Ok("audit"));
        check(&["deny"], &[], Err("cannot be fetched"));
        check(&[], &["deny", "audit"], Err("neither cargo-deny nor cargo-audit"));
    }
}
