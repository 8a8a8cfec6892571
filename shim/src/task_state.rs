//! The life of a process as a pure table: which action is allowed in which phase, and where it leads.

use std::fmt;

use containerd_shim_protos::types::task::Status;

/// Where a process, the container's first or an exec, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Made, its program not yet running. An exec in this phase has no process at all.
    Created,
    /// Its program runs.
    Running,
    /// Frozen with its container.
    Paused,
    /// Ended.
    Stopped,
    /// Gone from this shim.
    Deleted,
}

/// What can be asked of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the program.
    Start,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Send a signal.
    Kill,
    /// Make another process beside it.
    Exec,
    /// Change its resources.
    Update,
    /// Note that it ended.
    Exit,
    /// Take it away.
    Delete,
}

impl Phase {
    /// The phase after `action`, or `None` where it is not allowed.
    pub fn after(self, action: Action) -> Option<Phase> {
        match (self, action) {
            (Self::Created, Action::Start) | (Self::Paused, Action::Resume) => Some(Self::Running),
            (Self::Running, Action::Pause) => Some(Self::Paused),
            (Self::Created | Self::Running | Self::Paused, Action::Exit) => Some(Self::Stopped),
            (Self::Created | Self::Stopped, Action::Delete) => Some(Self::Deleted),
            // A frozen container takes signals: they are delivered when it thaws, SIGKILL at once on cgroup v2.
            (Self::Created | Self::Running | Self::Paused, Action::Kill | Action::Update)
            | (Self::Created | Self::Running, Action::Exec) => Some(self),
            _ => None,
        }
    }

    /// containerd's word for it.
    pub fn status(self) -> Status {
        match self {
            Self::Created => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Paused => Status::PAUSED,
            Self::Stopped => Status::STOPPED,
            Self::Deleted => Status::UNKNOWN,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Kill => "kill",
            Self::Exec => "exec in",
            Self::Update => "update",
            Self::Exit => "end",
            Self::Delete => "delete",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 5] = [
        Phase::Created,
        Phase::Running,
        Phase::Paused,
        Phase::Stopped,
        Phase::Deleted,
    ];
    const ACTIONS: [Action; 8] = [
        Action::Start,
        Action::Pause,
        Action::Resume,
        Action::Kill,
        Action::Exec,
        Action::Update,
        Action::Exit,
        Action::Delete,
    ];

    #[test]
    fn nothing_leaves_the_end() {
        for action in ACTIONS {
            assert_eq!(Phase::Deleted.after(action), None);
            if action != Action::Delete {
                assert_eq!(Phase::Stopped.after(action), None, "{action}");
            }
        }
    }

    #[test]
    fn a_live_process_ends_once_and_is_deleted_only_when_it_does_not_run() {
        for phase in PHASES {
            assert_eq!(
                phase.after(Action::Exit).is_some(),
                !matches!(phase, Phase::Stopped | Phase::Deleted)
            );
        }
        assert_eq!(Phase::Running.after(Action::Delete), None);
        assert_eq!(Phase::Paused.after(Action::Delete), None);
        assert_eq!(Phase::Created.after(Action::Delete), Some(Phase::Deleted));
    }

    #[test]
    fn start_comes_once() {
        assert_eq!(Phase::Created.after(Action::Start), Some(Phase::Running));
        assert_eq!(Phase::Running.after(Action::Start), None);
        assert_eq!(Phase::Running.after(Action::Resume), None);
    }
}
