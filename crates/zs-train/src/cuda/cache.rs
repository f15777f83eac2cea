//! The folder of compiled kernels and of what was found to be fastest: filled as shapes are met, and
//! the reason why a second run starts at once.

use std::path::PathBuf;

use etcetera::BaseStrategy;

/// `zs/kernels` in the user's cache; in the system's temporary folder where there is no user.
pub(crate) fn default_kernel_cache() -> PathBuf {
    let cache = match etcetera::choose_base_strategy() {
        Ok(strategy) => strategy.cache_dir(),
        Err(_) => std::env::temp_dir(),
    };
    cache.join("zs").join("kernels")
}

/// Tells burn's backend to keep kernels and timings in this folder, before it is first used.
///
/// Whatever else `cubecl.toml` or `burn.toml` above the current directory say, and the variables
/// `CUBECL_…`, holds as ever.
///
/// # Errors
///
/// Fails where the folder cannot be made.
#[cfg(feature = "cuda")]
pub(super) fn install(folder: &std::path::Path) -> Result<(), crate::device_error::DeviceError> {
    use std::sync::OnceLock;

    use cubecl_runtime::config::cache::CacheConfig;
    use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};

    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|source| {
        crate::device_error::DeviceError::KernelCache {
            path: folder.to_owned(),
            message: source.to_string(),
        }
    })?;
    INSTALLED.get_or_init(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        config.environment.path = CacheConfig::Directory(folder.to_owned());
        if !CubeClRuntimeConfig::try_set(config) {
            // Somebody has used the backend before: timings go to the folder all the same.
            cubecl_environment::environment::set_root(folder);
        }
    });
    Ok(())
}
