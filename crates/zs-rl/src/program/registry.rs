//! Program functions by name.

use zs_core::registry::{Registry, RegistryError, Settings};

use super::ProgramFunction;
use super::web::{
    AdversarialDistraction, CitationMismatch, Hallucination, InsufficientExploration,
    NegationOversight, OutdatedInformation, RetrievalFailure, TemporalNumeric,
};

/// Registry of program functions.
pub type ProgramFunctionRegistry = Registry<Box<dyn ProgramFunction>>;

/// Registers a [`ProgramFunction`] whose struct is its settings.
///
/// # Errors
///
/// Fails where its name is taken.
pub fn register_program_function<F: ProgramFunction + Settings>(
    registry: &mut ProgramFunctionRegistry,
) -> Result<(), RegistryError> {
    registry.register(|it: F, (): &(), _| Ok(Box::new(it) as _))
}

/// Registers the built-in program functions.
///
/// # Errors
///
/// Fails where one of their names is taken.
pub fn register_program_functions(
    registry: &mut ProgramFunctionRegistry,
) -> Result<(), RegistryError> {
    register_program_function::<InsufficientExploration>(registry)?;
    register_program_function::<RetrievalFailure>(registry)?;
    register_program_function::<Hallucination>(registry)?;
    register_program_function::<AdversarialDistraction>(registry)?;
    register_program_function::<TemporalNumeric>(registry)?;
    register_program_function::<CitationMismatch>(registry)?;
    register_program_function::<OutdatedInformation>(registry)?;
    register_program_function::<NegationOversight>(registry)
}

/// Creates a registry of the built-in program functions.
///
/// ```
/// use zs_core::registry::Spec;
///
/// let function = zs_rl::program::builtin().build(&Spec::named("hallucination"), &())?;
/// assert_eq!(function.id(), "hallucination");
/// # Ok::<(), zs_core::registry::RegistryError>(())
/// ```
#[must_use]
pub fn builtin() -> ProgramFunctionRegistry {
    let mut registry = Registry::new("program function");
    let registered = register_program_functions(&mut registry);
    debug_assert!(registered.is_ok(), "an empty registry has no name taken");
    registry
}

#[cfg(test)]
mod tests {
    use zs_core::registry::Spec;

    use super::*;

    #[test]
    fn ids_in_the_audit_log_are_names_in_run_files() {
        let registry = builtin();
        assert_eq!(registry.kinds().count(), 8);
        for kind in registry.kinds() {
            assert_eq!(registry.build(&Spec::named(kind), &()).unwrap().id(), kind);
        }
        let error = registry.build(&Spec::named("halucination"), &()).unwrap_err().to_string();
        assert!(error.contains("(did you mean `hallucination`?)"), "{error}");
    }
}
