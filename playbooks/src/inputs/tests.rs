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
    for name in ["site.retry", "filter_plugins/x.pyc", "filter_plugins/__pycache__/x.pyc", ".git/HEAD"] {
        tree.write(&format!("project/{name}"), "");
    }
    assert_eq!(tree.names(), ["ansible.cfg", "roles/a/tasks/main.yml", "site.yml"]);
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
