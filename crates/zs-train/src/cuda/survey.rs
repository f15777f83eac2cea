//! Survey of the parts of CUDA on this machine.

use std::path::Path;
use std::sync::OnceLock;

use super::headers;
use super::library::{self, Driver, Gpu};
use super::places::Places;
use super::version::CudaVersion;
use zs_trainer::plan::gib;

/// Result of the survey, with one finding for each part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    pub(crate) findings: Vec<Finding>,
    /// GPUs that can be computed on.
    pub(crate) gpus: Vec<Gpu>,
}

/// Finding about one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) is_good: bool,
    /// Needed: no GPU can be used without it.
    pub(crate) is_needed: bool,
    pub(crate) found: String,
    /// Remedy where it is not good.
    pub(crate) advice: String,
}

const DRIVER: &str = "NVIDIA driver";
const COMPILER: &str = "NVRTC";
const HEADERS: &str = "CUDA headers";
const NCCL: &str = "NCCL";

impl Survey {
    /// This machine, looked at when it is first asked for.
    pub(crate) fn once() -> &'static Self {
        static SURVEY: OnceLock<Survey> = OnceLock::new();
        SURVEY.get_or_init(Self::of_machine)
    }

    /// Looks at this machine.
    fn of_machine() -> Self {
        let places = Places::of_machine();
        let driver = library::open(&library::names("cuda"));
        let asked = driver.as_ref().map(|(name, it)| (name.clone(), library::driver(it)));
        let compiler = library::open(&library::names("nvrtc"))
            .map(|(name, it)| (name, library::nvrtc_version(&it)));
        let nccl = library::open(&library::names("nccl")).map(|(name, _)| name);
        let other_nccl = library::open(&["libnccl.so.2".to_owned()]).is_some();
        let supported = match &asked {
            Some((_, Ok(driver))) => Some(driver.version),
            _ => None,
        };
        let gpus = match &asked {
            Some((_, Ok(driver))) => driver.gpus.clone(),
            _ => Vec::new(),
        };
        let findings = vec![
            of_driver(asked),
            of_compiler(compiler, supported, &places),
            of_headers(&places),
            of_nccl(nccl, other_nccl, &places),
        ];
        Self { findings, gpus }
    }
}

impl Finding {
    fn good(what: &'static str, found: String) -> Self {
        Self { what, is_good: true, is_needed: true, found, advice: String::new() }
    }

    fn bad(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), advice.into());
        Self { what, is_good: false, is_needed: true, found, advice }
    }

    fn optional(self) -> Self {
        Self { is_needed: false, ..self }
    }
}

fn of_driver(asked: Option<(String, Result<Driver, String>)>) -> Finding {
    let install = "install NVIDIA's driver, 525 or newer; a container needs `--gpus all`";
    match asked {
        None => Finding::bad(DRIVER, "(libcuda.so.1) is missing", install),
        Some((name, Err(message))) => Finding::bad(DRIVER, format!("({name}) {message}"), install),
        Some((_, Ok(driver))) if driver.version < CudaVersion::OLDEST => {
            let found = format!("is for CUDA {}", driver.version);
            Finding::bad(DRIVER, found, "update the driver: CUDA 12 needs 525, CUDA 13 needs 580")
        }
        Some((_, Ok(driver))) if driver.gpus.is_empty() => {
            Finding::bad(DRIVER, "finds no GPU", "see `nvidia-smi` and CUDA_VISIBLE_DEVICES")
        }
        Some((name, Ok(driver))) => {
            let numbered = driver.gpus.iter().enumerate();
            let described =
                numbered.map(|(at, it)| format!("cuda:{at} {} ({})", it.name, gib(it.bytes)));
            let gpus = described.collect::<Vec<_>>().join(", ");
            Finding::good(DRIVER, format!("{name}, up to CUDA {}; {gpus}", driver.version))
        }
    }
}

fn of_compiler(
    opened: Option<(String, Result<CudaVersion, String>)>,
    supported: Option<CudaVersion>,
    places: &Places,
) -> Finding {
    match opened {
        None => Finding::bad(
            COMPILER,
            "(libnvrtc.so) is missing",
            match places.package_with_library("nvrtc") {
                Some(lib) => format!("`export LD_LIBRARY_PATH={}`", lib.display()),
                None => format!("install the CUDA toolkit, or {}", install(&["nvidia-cuda-nvrtc"])),
            },
        ),
        Some((name, Err(message))) => {
            Finding::bad(COMPILER, format!("({name}) {message}"), "reinstall the CUDA toolkit")
        }
        Some((name, Ok(version))) => match supported {
            // The driver translates what NVRTC wrote, and knows no later language than its own.
            Some(driver) if version > driver => Finding::bad(
                COMPILER,
                format!("({name}) is for CUDA {version}, but the driver only up to {driver}"),
                format!("update the driver, or install NVRTC of CUDA {driver} or older"),
            ),
            _ => Finding::good(COMPILER, format!("{name}, CUDA {version}")),
        },
    }
}

fn of_headers(places: &Places) -> Finding {
    let package = places.packages().into_iter().find(|it| headers::missing(it).is_empty());
    let elsewhere = |it: &Path| format!("`export CUDA_PATH={}`", it.display());
    let Some(cuda) = places.cuda() else {
        let advice = match package {
            Some(package) => elsewhere(&package),
            None => format!(
                "install the CUDA toolkit, or {}",
                install(&["nvidia-cuda-runtime", "nvidia-cuda-crt", "nvidia-cuda-cccl",])
            ),
        };
        let found = "are neither in CUDA_PATH nor in /usr/local/cuda or /opt/cuda";
        return Finding::bad(HEADERS, found, advice);
    };
    let missing = headers::missing(&cuda);
    if missing.is_empty() {
        return Finding::good(HEADERS, cuda.join("include").display().to_string());
    }
    let names: Vec<&str> = missing.iter().map(|(header, _)| *header).collect();
    let found = format!("in {} lack {}", cuda.join("include").display(), names.join(", "));
    let advice = match package {
        Some(package) => elsewhere(&package),
        None => {
            let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
            packages.dedup();
            format!("set CUDA_PATH to a complete toolkit, or {}", install(&packages))
        }
    };
    Finding::bad(HEADERS, found, advice)
}

fn of_nccl(opened: Option<String>, is_there_as_2: bool, places: &Places) -> Finding {
    let finding = match opened {
        Some(name) => Finding::good(NCCL, name),
        None => {
            let link = "burn looks for `libnccl.so`: link libnccl.so.2 to that name";
            let (found, advice) = match (is_there_as_2, places.package_with_library("nccl")) {
                (true, _) => ("exists only as libnccl.so.2".to_owned(), link.to_owned()),
                (_, Some(lib)) => (format!("is in {} only", lib.display()), link.to_owned()),
                (false, None) => {
                    let advice = "nothing: zs sums the gradients of several GPUs without it";
                    ("(libnccl.so) is missing".to_owned(), advice.to_owned())
                }
            };
            Finding::bad(NCCL, found, advice)
        }
    };
    finding.optional()
}

fn install(packages: &[&str]) -> String {
    format!("`pip install {}` of the driver's CUDA version (docs/gpu.md)", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const V12: CudaVersion = CudaVersion { major: 12, minor: 8 };
    const V13: CudaVersion = CudaVersion { major: 13, minor: 0 };

    #[track_caller]
    fn check(finding: &Finding, is_good: bool, parts: &[&str]) {
        assert_eq!(finding.is_good, is_good, "{finding:?}");
        assert_eq!(finding.advice.is_empty(), is_good, "advice where it is needed: {finding:?}");
        let text = format!("{} {}: {}", finding.what, finding.found, finding.advice);
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }

    #[test]
    fn drivers_are_judged() {
        let asked = |version, gpus: &[&str]| {
            let gpu = |name: &&str| Gpu {
                name: (*name).to_owned(),
                bytes: 141 << 30,
                bus: String::new(),
            };
            let gpus = gpus.iter().map(gpu).collect();
            Some(("libcuda.so.1".to_owned(), Ok(Driver { version, gpus })))
        };
        check(&of_driver(None), false, &["is missing", "--gpus all"]);
        check(&of_driver(asked(V13, &["H200"])), true, &["13.0", "cuda:0 H200 (141"]);
        check(&of_driver(asked(V12, &[])), false, &["no GPU", "CUDA_VISIBLE_DEVICES"]);
        check(
            &of_driver(asked(CudaVersion::of_number(11_080), &["V100"])),
            false,
            &["11.8", "525"],
        );
        let broken = Some(("libcuda.so.1".to_owned(), Err("finds no GPU".to_owned())));
        check(&of_driver(broken), false, &["libcuda.so.1", "finds no GPU"]);
    }

    #[test]
    fn a_compiler_may_not_be_newer_than_the_driver() {
        let opened = |version| Some(("libnvrtc.so".to_owned(), Ok(version)));
        let none = Places::default();
        check(&of_compiler(opened(V12), Some(V13), &none), true, &["12.8"]);
        check(&of_compiler(opened(V13), None, &none), true, &["13.0"]);
        check(&of_compiler(opened(V13), Some(V12), &none), false, &["13.0", "12.8", "update"]);
        check(&of_compiler(None, Some(V12), &none), false, &["libnvrtc.so", "pip install"]);
    }

    /// A folder of a Python environment with NVIDIA's packages of CUDA 13, headers optional.
    fn python(with_headers: bool) -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let cuda = folder.path().join("lib/python3.12/site-packages/nvidia/cu13");
        for sub in ["lib", "include/crt", "include/cccl/cuda"] {
            fs::create_dir_all(cuda.join(sub)).unwrap();
        }
        fs::write(cuda.join("lib/libnvrtc.so.13"), "").unwrap();
        if with_headers {
            for (header, _) in headers::missing(&cuda) {
                let path = cuda.join("include").join(header);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
        }
        let places = Places { pythons: vec![folder.path().to_owned()], ..Places::default() };
        (folder, places)
    }

    #[test]
    fn packages_of_python_are_pointed_out() {
        let (_folder, places) = python(true);
        check(&of_compiler(None, None, &places), false, &["LD_LIBRARY_PATH=", "nvidia/cu13/lib"]);
        check(&of_headers(&places), false, &["CUDA_PATH=", "nvidia/cu13"]);
        let (_folder, places) = python(false);
        check(&of_headers(&places), false, &["nvidia-cuda-cccl", "pip install"]);
    }

    #[test]
    fn what_a_folder_lacks_is_named() {
        let (folder, places) = python(true);
        let cuda = folder.path().join("lib/python3.12/site-packages/nvidia/cu13");
        let places = Places { cuda_path: Some(cuda.clone()), pythons: Vec::new(), ..places };
        check(&of_headers(&places), true, &["include"]);
        fs::remove_file(cuda.join("include/mma.h")).unwrap();
        check(&of_headers(&places), false, &["lack mma.h", "nvidia-cuda-runtime"]);
    }

    #[test]
    fn nccl_is_not_needed() {
        let none = Places::default();
        check(&of_nccl(Some("libnccl.so".to_owned()), false, &none), true, &["libnccl.so"]);
        check(&of_nccl(None, true, &none), false, &["libnccl.so.2", "link"]);
        let absent = of_nccl(None, false, &none);
        check(&absent, false, &["without it"]);
        assert!(!absent.is_needed);
    }

    #[test]
    fn any_machine_can_be_looked_at() {
        let survey = Survey::of_machine();
        let names: Vec<&str> = survey.findings.iter().map(|it| it.what).collect();
        assert_eq!(names, [DRIVER, COMPILER, HEADERS, NCCL]);
    }
}
