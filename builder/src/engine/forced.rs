//! Steps that are to be built whatever is known of them.

/// A step that is to be built even if it is cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Only in this root; `None`: in every one.
    pub root: Option<String>,
    /// The step's name.
    pub step: String,
}

/// Which layers are built whole: no record is taken for them, and no journal is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forced {
    /// Every one.
    pub all: bool,
    /// These.
    pub steps: Vec<Rebuild>,
}

impl Forced {
    /// Whether this step of this root is among them.
    #[must_use]
    pub fn is(&self, root: &str, step: &str) -> bool {
        let named = |it: &Rebuild| it.step == step && it.root.as_deref().is_none_or(|only| only == root);
        self.all || self.steps.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_forced_in_one_root_in_all_or_with_everything() {
        let one = Rebuild { root: Some("a".into()), step: "site.yml".into() };
        let all = Rebuild { root: None, step: "base:x".into() };
        let forced = Forced { all: false, steps: vec![one, all] };
        assert!(forced.is("a", "site.yml") && !forced.is("b", "site.yml") && forced.is("b", "base:x"));
        assert!(Forced { all: true, steps: Vec::new() }.is("b", "site.yml"));
        assert!(!Forced::default().is("a", "site.yml"));
    }
}
