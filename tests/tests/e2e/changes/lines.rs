//! The edits, and what each may cost.

use super::cluster::Edit;

/// What an edit may cost.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cost {
    /// Not even Ansible starts.
    Cached,
    /// Ansible runs, and nothing in the root.
    Replayed,
    /// Exactly these tasks run in the root.
    Only(&'static [&'static str]),
    /// This task and all after it run, since they find another root.
    From(&'static str),
    /// These tasks run; others from the first of them on may, but none from the second name on, where the root is
    /// again as it was.
    Between(&'static [&'static str], &'static str),
}

/// One line of the matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) edits: &'static [Edit],
    pub(super) cost: Cost,
    /// More arguments of `provision`.
    pub(super) arguments: &'static [&'static str],
    /// Whether the tasks' order is another one.
    pub(super) reorders: bool,
}

/// `name` and all that come after it.
pub(super) fn from<'a>(all: &'a [String], name: &str) -> impl Iterator<Item = &'a str> {
    all.iter().map(String::as_str).skip_while(move |task| *task != name)
}

const fn line(name: &'static str, edits: &'static [Edit], cost: Cost) -> Line {
    Line { name, edits, cost, arguments: &[], reorders: false }
}

const fn reordering(line: Line) -> Line {
    Line { reorders: true, ..line }
}

const ISSUE: &str = "- name: Issue
  ansible.builtin.template:
    src: issue.j2
    dest: /etc/issue
    mode: \"0644\"

";
const COLOUR: &str = "- name: Colour
  ansible.builtin.copy:
    content: \"{{ colour }}\\n\"
    dest: /etc/colour
    mode: \"0644\"

";
const PAGE: &str = "- name: Page
  ansible.builtin.copy:
    src: page.html
    dest: /srv/www/index.html
    mode: \"0644\"

";
const ISSUE_COLOUR: &str = concat_two(0);
const COLOUR_ISSUE: &str = concat_two(1);

/// The two tasks in their order, or the other way round.
const fn concat_two(swapped: usize) -> &'static str {
    const LENGTH: usize = ISSUE.len() + COLOUR.len();
    const fn joined(first: &str, second: &str) -> [u8; LENGTH] {
        let (first, second) = (first.as_bytes(), second.as_bytes());
        let (mut bytes, mut at) = ([0; LENGTH], 0);
        while at < LENGTH {
            bytes[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
            at += 1;
        }
        bytes
    }
    const BOTH: [[u8; LENGTH]; 2] = [joined(ISSUE, COLOUR), joined(COLOUR, ISSUE)];
    match std::str::from_utf8(&BOTH[swapped]) {
        Ok(text) => text,
        Err(_) => panic!("it is text"),
    }
}

const MARK: Cost = Cost::Between(&["web : Mark"], "app : Program");

/// Every way that people edit.
pub(super) const LINES: &[Line] = &[
    line("no change", &[], Cost::Cached),
    line("touch", &[Edit::Touch("roles/common/tasks/main.yml")], Cost::Cached),
    line("a comment in a playbook", &[Edit::Append("site.yml", "# Who reads this?\n")], Cost::Replayed),
    line(
        "a comment in a task file",
        &[Edit::Append("roles/common/tasks/main.yml", "\n# The end.\n")],
        Cost::Replayed,
    ),
    line(
        "template of the last role",
        &[Edit::Replace("roles/app/templates/app.conf.j2", "cluster=", "the_cluster=")],
        Cost::From("app : Settings"),
    ),
    line(
        "template of the first role",
        &[Edit::Replace("roles/common/templates/issue.j2", "issue_text }}", "issue_text }}.")],
        Cost::From("common : Issue"),
    ),
    line(
        "a variable used once",
        &[Edit::Replace("group_vars/all/main.yml", "green", "blue")],
        Cost::From("common : Colour"),
    ),
    line(
        "a variable used nowhere",
        &[Edit::Replace("group_vars/all/main.yml", "used_nowhere: 1", "used_nowhere: 2")],
        Cost::Replayed,
    ),
    line(
        "a default overridden",
        &[Edit::Append("group_vars/all/main.yml", "issue_text: keep out\n")],
        Cost::From("common : Issue"),
    ),
    line(
        "a new host_vars file",
        &[Edit::Write("host_vars/web0.yml", "local_setting: here\n")],
        Cost::From("web : What is local"),
    ),
    line(
        "a role that nothing uses",
        &[Edit::Replace("roles/unused/tasks/main.yml", "never", "ever")],
        Cost::Cached,
    ),
    line("a custom module", &[Edit::Append("library/marked.py", "# Edited.\n")], MARK),
    line("a module_util", &[Edit::Append("module_utils/marks.py", "# Edited.\n")], MARK),
    line(
        "what a module_util does",
        &[Edit::Replace("module_utils/marks.py", "marked by", "left by")],
        Cost::From("web : Mark"),
    ),
    line(
        "a filter plugin",
        &[Edit::Replace("filter_plugins/cluster.py", "\"!\"", "\"!!\"")],
        Cost::From("web : Shout"),
    ),
    line(
        "a comment in a filter plugin",
        &[Edit::Append("filter_plugins/cluster.py", "# Loud.\n")],
        Cost::Replayed,
    ),
    line(
        "a vault value",
        &[Edit::Write("group_vars/all/vault.yml", include_str!("vault.other.yml"))],
        Cost::From("web : Secret"),
    ),
    line(
        "ansible.cfg",
        &[Edit::Replace("ansible.cfg", "= managed by", "= kept by")],
        Cost::From("app : Settings"),
    ),
    line("a comment in ansible.cfg", &[Edit::Append("ansible.cfg", "# nothing more\n")], Cost::Replayed),
    line(
        "a handler",
        &[Edit::Replace("roles/app/handlers/main.yml", "was told", "was informed")],
        Cost::Only(&["app : App changed"]),
    ),
    line(
        "a changed loop list",
        &[Edit::Replace("group_vars/all/main.yml", "docs]", "docs, api]")],
        Cost::From("web : Sites"),
    ),
    reordering(line(
        "a task moved",
        &[Edit::Replace("roles/common/tasks/main.yml", ISSUE_COLOUR, COLOUR_ISSUE)],
        Cost::Between(&["common : Colour", "common : Issue"], "web : Places"),
    )),
    reordering(line(
        "a task removed",
        &[Edit::Replace("roles/web/tasks/main.yml", PAGE, "")],
        Cost::From("web : Mark"),
    )),
    line(
        "ansible-core bumped",
        &[Edit::Replace("../rootbuild.toml", "2.16.19", "2.19.14")],
        Cost::From("Gathering Facts"),
    ),
];
