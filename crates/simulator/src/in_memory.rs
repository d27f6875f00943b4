//! The least that there is to write for a state machine that lives in memory: what commands there
//! are, and what must always hold. The model is the machine itself, which one more instance is run
//! as, alone and in order. So a machine that differs from member to member is found, and whatever the
//! members around it do wrong; what it does wrong everywhere alike is found by
//! [`check`](Commands::check) and nothing else. For more, write a [`Workload`] with a model.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;

use quorate_raft::{Configuration, EntryId, RequestId};
use quorate_replica::StateMachine;

use crate::rng::Rng;
use crate::workload::{Home, MachineError, Opened, Request, Workload};

/// A state machine in memory and what is asked of it. The default of the machine is what a member
/// starts from.
///
/// The machine must not use the index or the request that it is told with a command, nor the
/// configuration: the instance that runs alone is told others, or none.
pub trait Commands {
    /// The machine.
    type Machine: Default + StateMachine<Error = Infallible, Response: Clone + Debug + PartialEq>;

    /// Some command.
    fn draw(&mut self, rng: &mut Rng) -> Vec<u8>;

    /// What must hold of a machine at any time.
    ///
    /// # Errors
    /// What does not, for a person to read.
    fn check(&self, machine: &Self::Machine) -> Result<(), String> {
        let _ = machine;
        Ok(())
    }
}

/// The [`Workload`] that these commands are: two of three operations are commands, the others read
/// the digest of the whole state, so that a stale one shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory<C>(pub C);

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// This command.
    Command(Arc<[u8]>),
    /// The state's digest.
    Digest,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<R> {
    /// What the machine has answered to a command.
    Applied(R),
    /// The digest.
    Digest(u64),
}

/// What a machine answers to an operation that it is taken through on its own.
fn answer<M: StateMachine<Error = Infallible>>(
    machine: &mut M,
    asked: &Asked,
) -> Answer<M::Response> {
    match asked {
        Asked::Command(command) => {
            let Ok(response) = machine.apply(EntryId::default(), RequestId::default(), command);
            Answer::Applied(response)
        }
        Asked::Digest => Answer::Digest(machine.digest()),
    }
}

impl<C: Commands> Workload for InMemory<C> {
    type Machine = Answering<C::Machine>;
    type Operation = Asked;
    type Response = Answer<<C::Machine as StateMachine>::Response>;
    type Model = C::Machine;

    fn open(&self, _: &Home<'_>) -> Result<Opened<Self::Machine>, MachineError<Self>> {
        Ok(Opened { machine: Answering::default(), position: None, reached: Vec::new() })
    }

    fn draw(&mut self, rng: &mut Rng) -> Asked {
        const COMMANDS_PERMILLE: u64 = 667;
        if rng.chance(COMMANDS_PERMILLE) {
            Asked::Command(self.0.draw(rng).into())
        } else {
            Asked::Digest
        }
    }

    fn probe_write(&mut self) -> Asked {
        // Which command it is does not matter here, only that it comes through.
        const SEED: u64 = 1;
        Asked::Command(self.0.draw(&mut Rng::new(SEED)).into())
    }

    fn probe_read(&mut self) -> Asked {
        Asked::Digest
    }

    fn request(&self, asked: &Asked) -> Request {
        match asked {
            Asked::Command(command) => Request::Command(Arc::clone(command)),
            Asked::Digest => Request::Read,
        }
    }

    fn read(&self, machine: &Self::Machine, _: &Asked) -> Self::Response {
        Answer::Digest(machine.digest())
    }

    fn model_write(model: &mut C::Machine, asked: &Asked) -> Self::Response {
        answer(model, asked)
    }

    fn model_read(model: &C::Machine, _: &Asked) -> Self::Response {
        Answer::Digest(model.digest())
    }

    fn check(&self, machine: &Self::Machine) -> Result<(), String> {
        self.0.check(&machine.machine)
    }
}

/// The machine of the members: the embedder's, with its answers told apart from digests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answering<M> {
    machine: M,
}

impl<M: StateMachine> StateMachine for Answering<M> {
    type Response = Answer<M::Response>;
    type Error = M::Error;
    type Staged = M::Staged;

    fn apply(
        &mut self,
        entry: EntryId,
        request: RequestId,
        command: &[u8],
    ) -> Result<Self::Response, M::Error> {
        self.machine.apply(entry, request, command).map(Answer::Applied)
    }

    fn configured(&mut self, configuration: &Configuration) {
        self.machine.configured(configuration);
    }

    fn digest(&self) -> u64 {
        self.machine.digest()
    }

    fn install(&mut self, staged: M::Staged) -> Result<(), M::Error> {
        self.machine.install(staged)
    }
}
