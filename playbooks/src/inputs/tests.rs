use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

struct Tree {
    top: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { top: TempDir::new().unwrap() };
        tree.write(
            "project/ansible.cfg",
            "[defaults]\nroles_path = roles:../shared\nvault_password_file = .pass\n",
        );
        tree.write("project/site.yml", "[]");
        tree.write("project/.pass", "secret");
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn project(&self) -> Project {
        Project { dir: self.path("project"), inventory: None, vault_password_file: None, exclude: vec![] }
    }

    fn inputs(&self) -> Vec<Input> {
        inputs(&self.project(), &self.path("project/site.yml")).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let top = self.top.path().to_str().unwrap().to_owned();
        self.inputs().into_iter().map(|input| input.name.replace(&top, "TOP")).collect()
    }
}

#[test]
fn everything_of_the_project_counts_but_secrets_and_leftovers() {
    let tree = Tree::new();
    tree.write("project/roles/a/tasks/main.yml", "[]");
    tree.write("project/filter_plugins/x.py", "");
    for name in ["site.retry", "filter_plugins/x.pyc", "filter_plugins/__pycache__/x.pyc", ".git/HEAD"] {
        tree.write(&format!("project/{name}"), "");
    }
    assert_eq!(tree.names(), ["ansible.cfg", "filter_plugins/x.py", "roles/a/tasks/main.yml", "site.yml"]);
}

#[test]
fn data_that_only_looks_like_leftovers_counts() {
    let tree = Tree::new();
    let names = [
        "data/__pycache__/x",
        "data/x.pyc",
        "data/x.retry",
        "files/__pycache__/x",
        "files/a.py",
        "files/a.pyc",
        "files/a.retry",
        "files/a.yml",
        "files/app/.git/HEAD",
        "roles/r/templates/.svn/x",
    ];
    for name in names {
        tree.write(&format!("project/{name}"), "");
    }
    let found = tree.names();
    for name in names {
        assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
    }
}

#[test]
fn all_permissions_count() {
    let tree = Tree::new();
    tree.write("project/files/x", "one");
    let with = |mode| {
        fs::set_permissions(tree.path("project/files/x"), fs::Permissions::from_mode(mode)).unwrap();
        tree.inputs()
    };
    assert_ne!(with(0o644), with(0o640));
    assert_ne!(with(0o755), with(0o4755));
    assert_eq!(with(0o755), with(0o755));
}

#[test]
fn empty_directories_count() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path("project/files/tree/empty")).unwrap();
    fs::create_dir_all(tree.path("project/files/tree.d")).unwrap();
    tree.write("project/files/tree/full/x", "");
    let names: Vec<_> = tree.names().into_iter().filter(|name| name.starts_with("files")).collect();
    // Sorted by kind first.
    assert_eq!(names, ["files/tree.d", "files/tree/empty", "files/tree/full/x"]);
    tree.write("project/files/tree/empty/x", "");
    assert!(!tree.names().contains(&"files/tree/empty".to_owned()));
}

#[test]
fn what_is_excluded_is_known_by_any_name() {
    let tree = Tree::new();
    tree.write("project/store/objects/x", "");
    tree.write("project/rootbuild.toml", "");
    symlink(tree.path("project"), tree.path("alias")).unwrap();
    let names = |dir: &str, exclude: [&str; 2]| -> Vec<String> {
        let exclude = exclude.iter().map(|name| tree.path(name)).collect();
        let project = Project { dir: tree.path(dir), exclude, ..tree.project() };
        let inputs = inputs(&project, &tree.path(dir).join("site.yml")).unwrap();
        inputs.into_iter().map(|input| input.name).collect()
    };
    for (dir, exclude) in [
        ("project", ["alias/store", "alias/rootbuild.toml"]),
        ("alias", ["project/store", "project/rootbuild.toml"]),
        ("alias", ["alias/store", "alias/rootbuild.toml"]),
    ] {
        assert_eq!(names(dir, exclude), ["ansible.cfg", "site.yml"], "{dir} {exclude:?}");
    }
}

#[test]
fn module_utils_that_any_module_may_import_are_noticed() {
    let tree = Tree::new();
    let own = || own_python(&tree.project(), &tree.path("project/site.yml")).unwrap();
    tree.write("project/roles/r/library/copy.py", "");
    tree.write("project/collections/ansible_collections/a/b/plugins/module_utils/basic.py", "");
    assert!(!own().utilities && own().names.contains(&"copy".to_owned()));
    tree.write("shared/r/module_utils/basic.py", "");
    assert!(own().utilities);
    fs::remove_dir_all(tree.path("shared")).unwrap();
    assert!(!own().utilities);
    tree.write("project/ansible.cfg", "[defaults]\nmodule_utils = lib/mu\n");
    assert!(own().utilities);
}

#[test]
fn content_and_the_executable_bit_count_and_times_do_not() {
    let tree = Tree::new();
    tree.write("project/files/x", "one");
    let first = tree.inputs();
    tree.write("project/files/x", "one");
    assert_eq!(first, tree.inputs());
    fs::set_permissions(tree.path("project/files/x"), fs::Permissions::from_mode(0o755)).unwrap();
    let second = tree.inputs();
    assert_ne!(first, second);
    tree.write("project/files/x", "two");
    assert_ne!(second, tree.inputs());
}

#[test]
fn what_the_configuration_names_outside_counts() {
    let tree = Tree::new();
    tree.write("shared/web/tasks/main.yml", "[]");
    tree.write("elsewhere/x", "");
    assert_eq!(tree.names(), ["TOP/shared/web/tasks/main.yml", "ansible.cfg", "site.yml"]);
}

#[test]
fn links_count_by_their_target_and_by_what_they_bring_in() {
    let tree = Tree::new();
    tree.write("project/files/real", "here");
    tree.write("outside/dir/file", "1");
    symlink("real", tree.path("project/files/inner")).unwrap();
    symlink("nowhere", tree.path("project/files/dangling")).unwrap();
    symlink(tree.path("outside/dir"), tree.path("project/files/outer")).unwrap();
    symlink(tree.path("outside/dir"), tree.path("outside/dir/loop")).unwrap();
    let names = tree.names();
    assert_eq!(
        names,
        [
            "ansible.cfg",
            "files/outer/file",
            "files/real",
            "site.yml",
            "files/dangling",
            "files/inner",
            "files/outer",
            "files/outer/loop"
        ]
    );
    let before = tree.inputs();
    tree.write("outside/dir/file", "2");
    assert_ne!(before, tree.inputs());
}

#[test]
fn a_playbook_outside_counts_with_what_stands_beside_it() {
    let tree = Tree::new();
    tree.write("books/play.yml", "[]");
    tree.write("books/group_vars/all.yml", "a: 1");
    tree.write("books/unrelated/huge.iso", "");
    let inputs = inputs(&tree.project(), &tree.path("books/play.yml")).unwrap();
    let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).filter(|n| n.contains("books")).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_playbook_that_is_not_there_is_named() {
    let tree = Tree::new();
    let error = inputs(&tree.project(), &tree.path("project/gone.yml")).unwrap_err();
    assert!(matches!(&error, InputsError::NoPlaybook { .. }) && error.to_string().contains("gone.yml"));
}

#[test]
fn excluded_directories_are_not_entered() {
    let tree = Tree::new();
    tree.write("project/store/objects/x", "");
    let project = Project { exclude: vec![tree.path("project/store")], ..tree.project() };
    let inputs = inputs(&project, &tree.path("project/site.yml")).unwrap();
    assert!(inputs.iter().all(|input| !input.name.starts_with("store")));
}
