//! The nearest right name for one that is wrong.

/// The candidate that was most likely meant, if one is near enough to be worth naming.
#[must_use]
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names that were typed, not data: cut what nobody would type before comparing gets dear.
    if wrong.chars().count() > 128 {
        return None;
    }
    let wrong = wrong.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| Some((likeness(&wrong, &candidate.to_lowercase())?, candidate)))
        // The first of equals wins, so that the answer doesn't depend on how candidates are stored.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// How alike two names are, from 0 to 1; `None` when naming one for the other would puzzle.
fn likeness(wrong: &str, candidate: &str) -> Option<f64> {
    let edits = strsim::damerau_levenshtein(wrong, candidate);
    let longest = wrong.chars().count().max(candidate.chars().count());
    let few_edits = edits <= (longest / 3).max(1) && edits < longest;
    // One inside the other ("hostname" for "host", "repo" for "repos") is a near miss at any length.
    let contained =
        wrong.len().min(candidate.len()) >= 3 && (wrong.contains(candidate) || candidate.contains(wrong));
    (few_edits || contained).then(|| strsim::jaro_winkler(wrong, candidate))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelt_name_finds_the_right_one() {
        let keys = ["repos", "packages", "lock", "releasever", "arch", "host", "playbooks"];
        for (wrong, right) in [
            ("repo", "repos"),
            ("package", "packages"),
            ("pacakges", "packages"),
            ("hostname", "host"),
            ("Playbook", "playbooks"),
            ("releaseversion", "releasever"),
        ] {
            assert_eq!(nearest(wrong, keys), Some(right), "{wrong}");
        }
    }

    #[test]
    fn a_name_like_none_of_them_finds_nothing() {
        assert_eq!(nearest("timezone", ["repos", "lock"]), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", ["lock"]), None);
        assert_eq!(nearest(&"a".repeat(10_000), ["lock"]), None);
    }
}
