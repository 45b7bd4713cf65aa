//! Packages that locks of either family are tried with.

/// A package to be made: its name, its version, the source package that it comes from, and what else its spec
/// file says (`Requires: …`).
pub(crate) type Spec<'a> = (&'a str, &'a str, &'a str, &'a str);

/// `lib` and `lib-common` come from one source and fit each other in equal versions only; `strict` fits one
/// version of `deep`.
pub(crate) const OLD: [Spec<'static>; 7] = [
    ("app", "1", "app", "Requires: lib >= 1"),
    ("lib", "1", "lib", "Requires: lib-common = 1"),
    ("lib-common", "1", "lib", ""),
    ("tool", "1", "tool", "Requires: lib\nRecommends: other"),
    ("other", "1", "other", ""),
    ("strict", "1", "strict", "Requires: deep = 1"),
    ("deep", "1", "deep", ""),
];

/// What there is later, beside that.
pub(crate) const NEW: [Spec<'static>; 6] = [
    ("app", "2", "app", "Requires: lib >= 1"),
    ("lib", "2", "lib", "Requires: lib-common = 2"),
    ("lib-common", "2", "lib", ""),
    ("tool", "2", "tool", "Requires: lib"),
    ("strict", "2", "strict", "Requires: deep = 2"),
    ("deep", "2", "deep", ""),
];
