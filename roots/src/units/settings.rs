//! What becomes of each setting of a unit: one table. What isn't in it is taken over.

/// What is done with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A list of other units.
    Dependencies,
    /// The unit that a socket, timer or path starts, or a service's sockets.
    Partners,
    /// A condition on a path.
    PathCondition,
    /// A path that the host opens; `-` may stand before it.
    HostPath,
    /// As [`Rule::HostPath`], below `/run` where it isn't absolute.
    PidFile,
    /// `file:PATH` and its like.
    Stream,
    /// `NAME:PATH`.
    Credential,
    /// A socket's address, maybe a path.
    Address,
    /// A list of paths that the host makes.
    HostPaths,
    /// Paths in the root, which the host takes for its own without a `+`.
    InsidePaths,
    /// `SOURCE:TARGET:OPTIONS`, the source the host's.
    Binds,
    /// Directories below the root's `/run`, made and removed with the service.
    RuntimeDirectory,
    /// Directories below this one.
    Directory(&'static str),
    /// The mode of those directories.
    DirectoryMode,
    /// What is run.
    Command,
    User,
    Group,
    Groups,
    /// `PATH:NAME:OPTIONS`, which the host opens.
    Opened,
    /// Taken over, and told.
    Tell(&'static str),
    /// Left out, and nobody misses it.
    Drop(&'static str),
    /// Left out, and told.
    Lose(&'static str),
    /// With this the unit can't be lifted.
    Refuse(&'static str),
}

use Rule::{
    Address, Binds, Command, Credential, Dependencies, Directory, DirectoryMode, Drop, Group, Groups,
    HostPath, HostPaths, InsidePaths, Lose, Opened, Partners, PathCondition, PidFile, Refuse,
    RuntimeDirectory, Stream, Tell, User,
};

/// Where a failure or success would be the host's.
const HOST_ACTION: Rule = Lose("it would halt or restart the host");
const OWN_IMAGE: Rule = Refuse("it has a root file system of its own");
const LABEL: Rule = Lose("the host's security module doesn't know it");
const TERMINAL: Rule = Lose("it would be a terminal of the host");

const TABLE: &[(&str, &[&str], Rule)] = &[
    (
        "Unit",
        &[
            "After",
            "Before",
            "Requires",
            "Requisite",
            "Wants",
            "BindsTo",
            "PartOf",
            "Upholds",
            "Conflicts",
            "OnFailure",
            "OnSuccess",
            "PropagatesReloadTo",
            "ReloadPropagatedFrom",
            "PropagatesStopTo",
            "StopPropagatedFrom",
            "JoinsNamespaceOf",
        ],
        Dependencies,
    ),
    (
        "Unit",
        &[
            "PathExists",
            "PathExistsGlob",
            "PathIsDirectory",
            "PathIsSymbolicLink",
            "PathIsMountPoint",
            "PathIsReadWrite",
            "PathIsEncrypted",
            "PathIsSocket",
            "DirectoryNotEmpty",
            "FileNotEmpty",
            "FileIsExecutable",
        ],
        PathCondition,
    ),
    ("Unit", &["RequiresMountsFor", "WantsMountsFor"], Drop("the root is mounted as a whole")),
    ("Unit", &["AllowIsolate", "SourcePath"], Drop("it is the machine's own affair")),
    ("Unit", &["FailureAction", "SuccessAction", "JobTimeoutAction", "StartLimitAction"], HOST_ACTION),
    ("Unit", &["RebootArgument", "JobTimeoutRebootArgument"], HOST_ACTION),
    ("Service", &["FailureAction", "SuccessAction", "StartLimitAction", "RebootArgument"], HOST_ACTION),
    (
        "Unit",
        &["OnFailureJobMode", "OnSuccessJobMode", "OnFailureIsolate"],
        Lose("it could stop what isn't the root's"),
    ),
    (
        "Unit",
        &[
            "ConditionHost",
            "ConditionOSRelease",
            "ConditionFirstBoot",
            "ConditionNeedsUpdate",
            "ConditionControlGroupController",
            "ConditionUser",
            "ConditionGroup",
            "ConditionCredential",
            "AssertHost",
            "AssertOSRelease",
            "AssertFirstBoot",
            "AssertNeedsUpdate",
            "AssertUser",
            "AssertGroup",
        ],
        Tell("it is about the host"),
    ),
    ("Service", &["PIDFile"], PidFile),
    ("Service", &["OpenFile"], Opened),
    ("Service", &["Sockets"], Partners),
    ("Service", &["BusName"], Lose("no name on the host's D-Bus is taken for a root")),
    ("Service", &["RootDirectoryStartOnly"], Drop("all of it runs in the root")),
    ("Service", &["USBFunctionDescriptors", "USBFunctionStrings"], Lose("hardware is the machine's")),
    ("Socket", &["Service"], Partners),
    (
        "Socket",
        &["ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO", "ListenSpecial"],
        Address,
    ),
    ("Socket", &["ListenUSBFunction"], Refuse("hardware is the machine's")),
    ("Socket", &["Symlinks"], HostPaths),
    ("Socket", &["SocketUser"], User),
    ("Socket", &["SocketGroup"], Group),
    ("Socket", &["SmackLabel", "SmackLabelIPIn", "SmackLabelIPOut", "SELinuxContextFromNet"], LABEL),
    ("Timer", &["Unit"], Partners),
    ("Path", &["Unit"], Partners),
    ("Path", &["PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty"], HostPath),
];

/// Settings of services and sockets alike.
const EXECUTION: &[(&[&str], Rule)] = &[
    (
        &[
            "ExecStart",
            "ExecStartPre",
            "ExecStartPost",
            "ExecCondition",
            "ExecReload",
            "ExecReloadPost",
            "ExecStop",
            "ExecStopPre",
            "ExecStopPost",
        ],
        Command,
    ),
    (&["EnvironmentFile"], HostPath),
    (&["StandardInput", "StandardOutput", "StandardError"], Stream),
    (&["LoadCredential", "LoadCredentialEncrypted"], Credential),
    (
        &[
            "ReadWritePaths",
            "ReadOnlyPaths",
            "InaccessiblePaths",
            "ExecPaths",
            "NoExecPaths",
            "ReadWriteDirectories",
            "ReadOnlyDirectories",
            "InaccessibleDirectories",
        ],
        InsidePaths,
    ),
    (&["ImportCredential"], Lose("it would be a credential of the host")),
    (&["BindPaths", "BindReadOnlyPaths"], Binds),
    (&["RuntimeDirectory"], RuntimeDirectory),
    (&["StateDirectory"], Directory("/var/lib")),
    (&["CacheDirectory"], Directory("/var/cache")),
    (&["LogsDirectory"], Directory("/var/log")),
    (&["ConfigurationDirectory"], Directory("/etc")),
    (
        &["StateDirectoryMode", "CacheDirectoryMode", "LogsDirectoryMode", "ConfigurationDirectoryMode"],
        DirectoryMode,
    ),
    (&["User"], User),
    (&["Group"], Group),
    (&["SupplementaryGroups"], Groups),
    (&["Slice"], Drop("each root has a slice")),
    (&["PAMName"], Lose("PAM would be the host's")),
    (&["AppArmorProfile", "SELinuxContext", "SmackProcessLabel"], LABEL),
    (&["TTYPath", "TTYReset", "TTYVHangup", "TTYVTDisallocate", "UtmpIdentifier", "UtmpMode"], TERMINAL),
    (
        &["RootDirectory", "RootImage", "RootHash", "RootVerity", "RootImageOptions", "RootImagePolicy"],
        OWN_IMAGE,
    ),
    (
        &["ExtensionImages", "ExtensionDirectories", "MountImages"],
        Refuse("what it mounts would be looked for on the host"),
    ),
    (&["NetworkNamespacePath", "IPCNamespacePath"], Refuse("namespaces of the host aren't the root's")),
    (&["MountAPIVFS"], Drop("it is on for every root")),
];

/// What becomes of a setting; `None` where it is taken over.
pub(super) fn rule(section: &str, key: &str) -> Option<Rule> {
    let bare = key.strip_prefix("Condition").or_else(|| key.strip_prefix("Assert"));
    let own = TABLE.iter().find(|(of, keys, rule)| {
        let key = if *rule == PathCondition { bare.unwrap_or_default() } else { key };
        *of == section && keys.contains(&key)
    });
    if let Some((_, _, rule)) = own {
        return Some(*rule);
    }
    let runs = matches!(section, "Service" | "Socket");
    EXECUTION.iter().find(|(keys, _)| runs && keys.contains(&key)).map(|(_, rule)| *rule)
}

/// What a setting needs of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since {
    /// The first version that knows it.
    pub version: u32,
    /// Whether the unit does its work without it.
    pub needed: bool,
}

/// Settings that systemd 247 doesn't know: the version that does, and whether a unit needs them to work.
const SINCE: &[(u32, bool, &[&str])] = &[
    (248, false, &["PrivateIPC", "ExecPaths", "NoExecPaths", "ManagedOOMPreference"]),
    (249, false, &["SocketBindAllow", "SocketBindDeny", "StartupCPUSet"]),
    (249, true, &["Upholds", "OnSuccess", "PropagatesStopTo", "StopPropagatedFrom"]),
    (250, false, &["RestrictFileSystems", "RestrictNetworkInterfaces", "CPUWeightIdle"]),
    (250, true, &["ExitType", "SetCredentialEncrypted", "LoadCredentialEncrypted"]),
    (251, false, &["LogFilterPatterns"]),
    (253, true, &["OpenFile"]),
    (254, false, &["MemoryPressureWatch", "RestartSteps", "RestartMaxDelaySec", "RootEphemeral"]),
    (254, true, &["DelegateSubgroup"]),
    (256, false, &["MemoryZSwapWriteback"]),
    (257, false, &["PrivatePIDs", "BindLogSockets", "ManagedOOMMemoryPressureDurationSec"]),
];

/// What a setting needs of systemd, beyond the oldest that will do.
pub(super) fn since(key: &str) -> Option<Since> {
    let row = SINCE.iter().find(|(_, _, keys)| keys.contains(&key));
    row.map(|(version, needed, _)| Since { version: *version, needed: *needed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_in_its_own_section_only() {
        assert_eq!(rule("Service", "PIDFile"), Some(PidFile));
        assert_eq!(rule("Socket", "PIDFile"), None);
        assert_eq!(rule("Unit", "ConditionPathExists"), Some(PathCondition));
        assert_eq!(rule("Unit", "AssertPathIsDirectory"), Some(PathCondition));
        assert_eq!(rule("Unit", "PathExists"), None);
        assert_eq!(rule("Path", "PathExists"), Some(HostPath));
        assert_eq!(rule("Socket", "ExecStartPre"), Some(Command));
        assert_eq!(rule("Timer", "User"), None);
        assert_eq!(rule("Service", "Type"), None);
    }
}
