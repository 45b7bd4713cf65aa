//! Command lines.

use super::tree::Tree;
use super::words::{self, Word};

/// What changes user where the host doesn't know the root's users.
pub(super) const SETPRIV: &str = "/usr/bin/setpriv";

/// What enters the namespace of the root's hostname.
pub(super) const NSENTER: &str = "/usr/bin/nsenter";

/// Where that is in a root that runs.
pub(super) const UTS: &str = "/run/.rootbuild-uts";

/// Where systemd looks for a program that has no path.
const SEARCHED: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What came of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Commands {
    pub text: String,
    /// What doesn't do the same as in a machine of its own.
    pub told: Vec<String>,
}

/// How commands run as another user.
#[derive(Debug, Default)]
pub(super) struct Become<'a> {
    /// Arguments for [`SETPRIV`], where that is what does it.
    pub setpriv: Option<&'a str>,
    /// Whether only the unit's main commands are meant (`PermissionsStartOnly=`), and this is none.
    pub exempt: bool,
    /// Whether [`NSENTER`] gives them the root's hostname.
    pub uts: bool,
}

/// Rewrites a command line; `None` where it can't be read.
pub(super) fn rewrite(value: &str, tree: &Tree, how: &Become<'_>) -> Option<Commands> {
    let mut commands = Commands { text: String::new(), told: Vec::new() };
    let words = words::split(value)?;
    for command in words.split(|word| word.raw == ";") {
        let Some((program, arguments)) = command.split_first() else { continue };
        if !commands.text.is_empty() {
            commands.text.push_str(" ; ");
        }
        one(program, arguments, tree, how, &mut commands);
    }
    Some(commands)
}

fn one(program: &Word<'_>, arguments: &[Word<'_>], tree: &Tree, how: &Become<'_>, commands: &mut Commands) {
    let at = program.text.find(|c: char| !"-@:+!|".contains(c)).unwrap_or(program.text.len());
    let (prefix, path) = program.text.split_at(at);
    let mut prefix = prefix.to_owned();
    if prefix.contains('+') {
        // With it all mount namespaces are left, and with them the root's /dev and /proc.
        prefix = prefix.replace('+', "!");
        commands.told.push(format!("`{path}` keeps its sandbox, which `+` would take off"));
    }
    let mut path = path.to_owned();
    if !path.starts_with('/') && !path.contains('%') {
        let found = SEARCHED.iter().map(|dir| format!("{dir}/{path}")).find(|path| tree.is_executable(path));
        match found {
            Some(found) => path = found,
            None => commands.told.push(format!("the root has no program `{path}`")),
        }
    }
    let privileged = prefix.contains('!');
    let mut rest: Vec<String> = arguments.iter().map(|word| word.raw.to_owned()).collect();
    let mut wrap = |program: &str, arguments: &str| {
        if let Some(at) = prefix.find('@') {
            prefix.remove(at);
            if !rest.is_empty() {
                rest.remove(0);
            }
        }
        rest.splice(..0, [format!("{arguments} --"), words::quote(&path)]);
        program.clone_into(&mut path);
    };
    if let Some(setpriv) = how.setpriv.filter(|_| !privileged && !how.exempt) {
        wrap(SETPRIV, setpriv);
    }
    if how.uts {
        wrap(NSENTER, &format!("--uts={UTS}"));
    }
    if how.exempt && !privileged {
        prefix.push('!');
    }
    commands.text.push_str(&words::quote(&format!("{prefix}{path}")));
    for word in rest {
        commands.text.push(' ');
        commands.text.push_str(&word);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    fn rewritten(value: &str, how: &Become<'_>) -> String {
        let root = Root::new();
        root.write("usr/bin/tool", "");
        let tool = root.path().join("usr/bin/tool");
        std::fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        rewrite(value, &root.tree(), how).unwrap().text
    }

    #[test]
    fn arguments_stay_as_they_are_written() {
        let line = r#"-/usr/sbin/nginx -g 'daemon on; master_process on;' "$X" \x20 ${Y} $$Z"#;
        assert_eq!(rewritten(line, &Become::default()), line);
    }

    #[test]
    fn programs_are_found_in_the_root_and_keep_their_sandbox() {
        let plain = Become::default();
        assert_eq!(rewritten("tool a ; -@tool b c", &plain), "/usr/bin/tool a ; -@/usr/bin/tool b c");
        assert_eq!(rewritten("+/bin/x", &plain), "!/bin/x");
        assert_eq!(rewritten("nowhere", &plain), "nowhere");
        assert_eq!(rewrite("'a", &Root::new().tree(), &plain), None);
    }

    #[test]
    fn where_the_host_knows_no_users_setpriv_changes_them() {
        let how = Become { setpriv: Some("--reuid=5"), ..Become::default() };
        assert_eq!(rewritten("-/bin/x a 'b c'", &how), "-/usr/bin/setpriv --reuid=5 -- /bin/x a 'b c'");
        assert_eq!(rewritten("@/bin/x argv0 a", &how), "/usr/bin/setpriv --reuid=5 -- /bin/x a");
        assert_eq!(rewritten("!/bin/x", &how), "!/bin/x");
        let both = Become { uts: true, ..how };
        let expected =
            "-/usr/bin/nsenter --uts=/run/.rootbuild-uts -- /usr/bin/setpriv --reuid=5 -- /bin/x a";
        assert_eq!(rewritten("-@/bin/x argv0 a", &both), expected);
        assert_eq!(rewritten("/bin/x", &Become { exempt: true, ..Become::default() }), "!/bin/x");
    }
}
