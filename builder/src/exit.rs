//! The process's exit codes. They are a contract: scripts and other tools decide by them.

/// Everything went well.
pub const OK: u8 = 0;
/// A build or a playbook failed; also what `doctor` says when something needed is missing.
pub const FAILED: u8 = 1;
/// The command line, the definition, or a file or store that it names is wrong.
pub const USAGE: u8 = 2;
/// The wait for a lock that another process holds timed out.
pub const LOCK_TIMEOUT: u8 = 3;
/// The store is damaged.
pub const STORE_DAMAGED: u8 = 4;
/// Differences were found (`diff`, `parity`, `plan --detailed-exitcode`).
pub const DIFFERENCES: u8 = 5;
/// A defect in rootbuild itself (`EX_SOFTWARE` of sysexits.h).
pub const BUG: u8 = 70;
/// Stopped by SIGINT (128 + 2).
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM (128 + 15).
pub const TERMINATED: u8 = 143;
