use super::*;

fn package<'a>(name: &'a str, version: &'a str, arch: &'a str, repo: &'a str) -> Locked<'a> {
    Locked { name, version, arch, repo, sha256: "same" }
}

#[test]
fn changes_pair_what_belongs_together() {
    let old = [
        package("a", "1-1", "x86_64", "os"),
        package("b", "1-1", "x86_64", "os"),
        package("c", "1-1", "i686", "os"),
        package("c", "1-1", "x86_64", "os"),
        package("d", "1-1", "x86_64", "os"),
        package("e", "1-1", "x86_64", "os"),
    ];
    let mut other = package("e", "1-1", "x86_64", "os");
    other.sha256 = "another";
    let new = [
        package("a", "1-1", "x86_64", "os"),
        package("b", "2-1", "noarch", "updates"),
        package("c", "1-1", "i686", "os"),
        package("c", "2-1", "x86_64", "os"),
        other,
        package("f", "1-1", "x86_64", "os"),
    ];
    let found: Vec<String> = changes(&old, &new)
        .into_iter()
        .map(|change| {
            let PackageChange { name, arch, old, new, repository, old_repository } = change;
            let shown = |evr: Option<String>| evr.unwrap_or_else(|| "-".to_owned());
            let from = old_repository.map(|repo| format!("{repo}>")).unwrap_or_default();
            format!("{name}.{arch} {} {} {from}{repository}", shown(old), shown(new))
        })
        .collect();
    assert_eq!(
        found,
        [
            "b.noarch 1-1 2-1 os>updates",
            "c.x86_64 1-1 2-1 os",
            "d.x86_64 1-1 - os",
            "e.x86_64 1-1 1-1 os",
            "f.x86_64 - 1-1 os",
        ]
    );
    assert!(changes(&old, &old).is_empty());
}
