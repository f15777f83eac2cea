//! Memory that the control groups of Linux allow this process.
//!
//! sysinfo reads the same files, but counts the page cache as used, which the kernel takes back before
//! it refuses memory.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of one version of control groups.
struct Files {
    /// Folder of the root group, below that of all groups.
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Prefix of the counts of `memory.stat` that include the groups below.
    prefix: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files { root: "", limit: "memory.max", usage: "memory.current", prefix: "" },
    Files {
        root: "memory",
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        prefix: "total_",
    },
];

/// Limit of the groups of a process, and how much of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupMemory {
    pub(super) limit: u64,
    pub(super) free: u64,
}

/// The tightest of the groups that this process is in; `None` where none has a limit.
pub(super) fn memory_of_groups() -> Option<GroupMemory> {
    memory_below(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// [`memory_of_groups`] of a process with some `/proc/self/cgroup`.
fn memory_below(all: &Path, membership: &str) -> Option<GroupMemory> {
    let groups = VERSIONS.iter().flat_map(|files| {
        let root = all.join(files.root);
        let path = group_of(membership, files);
        // Inside of a container the path may be that of the host; its own group is then the root.
        let own = path.map(|it| root.join(it)).filter(|it| it.is_dir()).unwrap_or(root.clone());
        let levels = own.ancestors().take_while(|it| it.starts_with(&root));
        levels.map(Path::to_owned).map(|it| (files, it)).collect::<Vec<_>>()
    });
    let found = groups.filter_map(|(files, dir)| memory_of(&dir, files));
    found.reduce(|a, b| GroupMemory { limit: a.limit.min(b.limit), free: a.free.min(b.free) })
}

/// Path of the group of a process, relative to the root group.
fn group_of(membership: &str, files: &Files) -> Option<PathBuf> {
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_version = match files.root {
            "" => controllers.is_empty(),
            controller => controllers.split(',').any(|it| it == controller),
        };
        is_version.then(|| PathBuf::from(path.trim_start_matches('/')))
    };
    membership.lines().find_map(of_line)
}

fn memory_of(dir: &Path, files: &Files) -> Option<GroupMemory> {
    let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    // A group without a limit has the word `max` or about 2^63.
    let limit = number(files.limit).filter(|it| *it < 1 << 62)?;
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let count = |name: &str| {
        let value =
            |line: &str| line.strip_prefix(files.prefix)?.strip_prefix(name)?.trim().parse().ok();
        stat.lines().find_map(value).unwrap_or(0_u64)
    };
    let cache = count("inactive_file ") + count("active_file ");
    let used = number(files.usage)?.saturating_sub(cache);
    Some(GroupMemory { limit, free: limit.saturating_sub(used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn group(dir: &Path, files: &Files, limit: &str, usage: u64, cache: u64) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(files.limit), format!("{limit}\n")).unwrap();
        fs::write(dir.join(files.usage), format!("{usage}\n")).unwrap();
        let prefix = files.prefix;
        let stat = format!(
            "anon 7\ninactive_file 1\n{prefix}inactive_file {}\n{prefix}active_file {}\n",
            cache / 2,
            cache - cache / 2
        );
        let stat = if prefix.is_empty() { stat.replacen("inactive_file 1\n", "", 1) } else { stat };
        fs::write(dir.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_page_cache_is_free_and_the_tightest_group_counts() {
        for (files, membership) in [
            (&VERSIONS[0], "0::/outer/inner\n"),
            (&VERSIONS[1], "12:cpu:/x\n4:memory,hugetlb:/outer/inner\n0::/\n"),
        ] {
            let scratch = tempfile::tempdir().unwrap();
            let root = scratch.path().join(files.root);
            let check = |expected: Option<(u64, u64)>| {
                let found = memory_below(scratch.path(), membership);
                assert_eq!(found, expected.map(|(limit, free)| GroupMemory { limit, free }));
            };
            check(None);
            group(
                &root,
                files,
                if files.prefix.is_empty() { "max" } else { "9223372036854771712" },
                50 * GIB,
                0,
            );
            check(None);
            // 6 of 8 GiB, 5 of which are cache.
            fs::create_dir_all(root.join("outer/inner")).unwrap();
            group(&root.join("outer"), files, &(8 * GIB).to_string(), 6 * GIB, 5 * GIB);
            check(Some((8 * GIB, 7 * GIB)));
            group(&root.join("outer/inner"), files, &(4 * GIB).to_string(), 3 * GIB, GIB);
            check(Some((4 * GIB, 2 * GIB)));
            // The path is the host's, and the container sees its own group as the root.
            let inside = scratch.path().join("container");
            group(&inside.join(files.root), files, &GIB.to_string(), GIB, GIB / 2);
            let found = memory_below(&inside, membership).unwrap();
            assert_eq!(found, GroupMemory { limit: GIB, free: GIB / 2 });
        }
    }
}
