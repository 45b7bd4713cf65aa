//! The users and groups of a root, made known to the host under names that can't be the host's.

use std::collections::BTreeMap;

use serde_json::json;

use super::tree::Tree;

/// A user of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

/// A group of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// The root's own `/etc/passwd` and `/etc/group`.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Users {
    pub(super) fn read(tree: &Tree) -> std::io::Result<Self> {
        let text = |path: &str| -> std::io::Result<String> {
            Ok(String::from_utf8_lossy(&tree.read(path)?.unwrap_or_default()).into_owned())
        };
        Ok(Self {
            users: text("/etc/passwd")?.lines().filter_map(user).collect(),
            groups: text("/etc/group")?.lines().filter_map(group).collect(),
        })
    }

    /// A user by name or number, as systemd takes both.
    pub(super) fn user(&self, name: &str) -> Option<&User> {
        let number = name.parse::<u32>().ok();
        let by_name = self.users.iter().find(|user| user.name == name);
        by_name.or_else(|| self.users.iter().find(|user| Some(user.uid) == number))
    }

    /// A group by name or number.
    pub(super) fn group(&self, name: &str) -> Option<&Group> {
        let number = name.parse::<u32>().ok();
        let by_name = self.groups.iter().find(|group| group.name == name);
        by_name.or_else(|| self.groups.iter().find(|group| Some(group.gid) == number))
    }

    /// The groups that a user is in beside the one of its own.
    pub(super) fn groups_of(&self, user: &User) -> impl Iterator<Item = &Group> {
        let is_in = |group: &&Group| group.gid != user.gid && group.members.contains(&user.name);
        self.groups.iter().filter(is_in)
    }
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let mut next = || fields.next().map(str::to_owned);
    let (name, _, uid, gid, _, home, shell) = (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
    let is_name = is_name(&name);
    let or = |text: String, other: &str| if text.starts_with('/') { text } else { other.to_owned() };
    let (home, shell) = (or(home, "/"), or(shell, "/bin/sh"));
    Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home, shell }).filter(|_| is_name)
}

/// Whether something can be a name; it becomes one of a file.
fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-$".contains(c);
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(good)
}

fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
    let members = fields.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
    let is_name = is_name(name);
    let members = members.map(str::to_owned).collect();
    Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members }).filter(|_| is_name)
}

/// A record of a user or a group for `/run/userdb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file's name there: `rootbuild-web-redis.user`.
    pub file: String,
    /// JSON, as systemd's user records are.
    pub text: String,
}

/// The records that the units of a root need.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<String, Record>);

impl Records {
    /// Makes a user known, and returns the name that it has on the host.
    pub(super) fn user(&mut self, root: &str, user: &User) -> String {
        let name = format!("rootbuild-{root}-{}", user.name);
        let record = json!({
            "userName": name,
            "uid": user.uid,
            "gid": user.gid,
            "homeDirectory": user.home,
            "shell": user.shell,
            "disposition": "system",
            "locked": true,
        });
        self.add(format!("{name}.user"), &record);
        name
    }

    /// Makes a group known, and returns the name that it has on the host.
    pub(super) fn group(&mut self, root: &str, group: &Group) -> String {
        let name = format!("rootbuild-{root}-{}", group.name);
        let record = json!({ "groupName": name, "gid": group.gid, "disposition": "system" });
        self.add(format!("{name}.group"), &record);
        name
    }

    fn add(&mut self, file: String, record: &serde_json::Value) {
        let record = Record { file: file.clone(), text: format!("{record}\n") };
        self.0.insert(file, record);
    }

    pub(super) fn finish(self) -> Vec<Record> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    #[test]
    fn users_are_the_roots_own() {
        let root = Root::new();
        let passwd = "root:x:0:0::/root:/bin/sh\n# no\nbad\nred:x:101:102::/var/lib/red:/usr/sbin/nologin\nx:x:9:9:::\n../up:x:1:1:::\n";
        root.write("etc/passwd", passwd);
        root.write("etc/group", "red:x:102:\nssl:x:110:red,root\nodd:x:nine:\n");
        let users = Users::read(&root.tree()).unwrap();
        let red = users.user("red").unwrap();
        assert_eq!((red.uid, red.gid, red.home.as_str()), (101, 102, "/var/lib/red"));
        assert_eq!(users.user("101"), Some(red));
        assert_eq!(users.user("x").unwrap().shell, "/bin/sh");
        assert!(users.user("../up").is_none(), "it would become a path");
        assert!(users.user("daemon").is_none() && users.group("odd").is_none());
        let others: Vec<&str> = users.groups_of(red).map(|group| group.name.as_str()).collect();
        assert_eq!(others, ["ssl"]);
        let mut records = Records::default();
        assert_eq!(records.user("web", red), "rootbuild-web-red");
        let all = records.finish();
        assert_eq!(all[0].file, "rootbuild-web-red.user");
        let value: serde_json::Value = serde_json::from_str(&all[0].text).unwrap();
        assert_eq!(value["uid"], 101);
        assert_eq!(value["userName"], "rootbuild-web-red");
    }
}
