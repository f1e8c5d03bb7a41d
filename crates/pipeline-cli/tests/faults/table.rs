//! The table of faults: what goes wrong, what happens then, and which tests prove it.

use crate::scenario::Scenario;
use crate::stage;

/// How the program reacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The request is sent again, a bounded number of times.
    Retry,
    /// The vendor is obeyed. Waiting is not a failed attempt.
    Wait,
    /// The credentials are renewed once.
    Reauth,
    /// The record is kept apart, and the others continue.
    Quarantine,
    /// The stream stops at its last commit, and the others continue.
    FailStream,
    /// The run stops at its last commit.
    FailRun,
    /// It does no harm.
    Absorb,
}

impl Reaction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Retry => "asks again",
            Self::Wait => "waits",
            Self::Reauth => "renews the credentials",
            Self::Quarantine => "sets the record aside",
            Self::FailStream => "stops the stream",
            Self::FailRun => "stops the run",
            Self::Absorb => "continues",
        }
    }
}

/// What shows that a fault has the effect that the table says.
pub(crate) enum Proof {
    /// The harness plays this.
    Scenario(&'static str, Box<dyn Fn() + Send + Sync>),
    /// A test elsewhere in the workspace: package, target as `cargo test` names it, and the test's
    /// path.
    Test {
        package: &'static str,
        target: &'static str,
        name: &'static str,
    },
}

/// One fault.
pub(crate) struct Fault {
    /// Its code.
    pub(crate) code: &'static str,
    /// What goes wrong.
    pub(crate) what: &'static str,
    /// What happens then.
    pub(crate) then: &'static str,
    pub(crate) reaction: Reaction,
    /// The exit code while the fault lasts.
    pub(crate) exit: &'static str,
    pub(crate) proofs: Vec<Proof>,
    /// Why the fault cannot happen to this program.
    pub(crate) not_applicable: Option<&'static str>,
}

/// A fault that applies.
pub(crate) fn fault(
    code: &'static str,
    what: &'static str,
    reaction: Reaction,
    exit: &'static str,
    then: &'static str,
) -> Fault {
    Fault {
        code,
        what,
        then,
        reaction,
        exit,
        proofs: Vec::new(),
        not_applicable: None,
    }
}

/// A fault of something that the program does not have.
pub(crate) fn not_applicable(code: &'static str, what: &'static str, why: &'static str) -> Fault {
    Fault {
        code,
        what,
        then: "",
        reaction: Reaction::Absorb,
        exit: "",
        proofs: Vec::new(),
        not_applicable: Some(why),
    }
}

impl Fault {
    /// Is proved by a scenario; `case` distinguishes what several of them try.
    pub(crate) fn plays(self, case: &'static str, scenario: Scenario) -> Self {
        self.does(case, move || stage::play(&scenario))
    }

    /// Is proved by a sequence of runs that is not a scenario's.
    pub(crate) fn does(
        mut self,
        case: &'static str,
        act: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        self.proofs.push(Proof::Scenario(case, Box::new(act)));
        self
    }

    /// Is proved by a test of the core crate.
    pub(crate) fn core(self, name: &'static str) -> Self {
        self.test("pipeline-core", "--lib", name)
    }

    /// Is proved by a test of the engine's crate.
    pub(crate) fn engine(self, name: &'static str) -> Self {
        self.test("pipeline-engine", "--lib", name)
    }

    /// Is proved by a test elsewhere in the workspace.
    pub(crate) fn test(
        mut self,
        package: &'static str,
        target: &'static str,
        name: &'static str,
    ) -> Self {
        self.proofs.push(Proof::Test {
            package,
            target,
            name,
        });
        self
    }
}

/// All faults, in the order of their codes.
pub(crate) fn all() -> Vec<Fault> {
    use crate::matrix::{
        content, credentials, http, network, process, semantics, sinks, webhooks, workers,
    };
    [
        network,
        http,
        semantics,
        content,
        credentials,
        process,
        sinks,
        webhooks,
        workers,
    ]
    .into_iter()
    .flat_map(|faults| faults())
    .collect()
}

/// The groups of faults by the first letter of their codes.
pub(crate) const GROUPS: [(char, &str); 9] = [
    ('A', "Network and TLS"),
    ('B', "HTTP and redirects"),
    ('C', "What the API does"),
    ('D', "What records hold"),
    ('E', "Credentials and secrets"),
    ('F', "Process, disk, and clock"),
    ('G', "Destinations"),
    ('H', "Webhooks"),
    ('I', "Several machines"),
];
