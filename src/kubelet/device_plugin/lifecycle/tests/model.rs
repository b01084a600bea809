//! A node on which the steps really are taken: a kubelet that handles registrations as the real
//! ones do, and what the plugin's loop holds.

use std::collections::BTreeMap;

use super::super::*;

/// How a kubelet handles registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It knows its clients by resource: the end of one disconnects the newest
    /// (kubernetes/kubernetes#127803).
    UpTo1_36,
    /// It knows them by resource and socket, and refuses a socket that it holds
    /// (kubernetes/kubernetes#135437).
    From1_37,
    /// As [`Self::UpTo1_36`], and it opens its stream and answers only after so many seconds.
    AnswersAfter(u64),
}

/// A plugin's server, ours or another plugin's, by its socket.
type ServerId = SocketId;

/// A Register call that the kubelet handles; it goes on when the caller has gone.
#[derive(Debug)]
struct Handler {
    server: ServerId,
    due: Duration,
}

/// One life of a kubelet.
#[derive(Debug)]
struct Kubelet {
    socket: SocketId,
    mode: Mode,
    /// By socket from 1.37 on.
    clients: BTreeMap<Option<u64>, ServerId>,
    handlers: Vec<Handler>,
    /// Whose devices the resource has, and whether they are allocatable.
    endpoint: Option<(ServerId, bool)>,
}

/// Our server and the kubelet's stream to it.
#[derive(Debug)]
struct Server {
    id: ServerId,
    stream: KubeletStream,
    open_since: Duration,
}

pub(super) struct World {
    pub(super) state: PluginState,
    mode: Mode,
    now: Duration,
    made: u64,
    own: Option<SocketId>,
    own_gone_since: Duration,
    server: Option<Server>,
    /// What is at the kubelet's path, whether or not a kubelet listens.
    kubelet_socket: Option<SocketId>,
    kubelet: Option<Kubelet>,
    /// The server of another plugin for the same resource, while it runs.
    other: Option<ServerId>,
    /// Our Register call: on which kubelet socket, and until when an answer is awaited.
    call: Option<(SocketId, Duration)>,
    pub(super) register_fails: bool,
    pub(super) bind_fails: bool,
    /// Registrations of a socket that the kubelet held.
    pub(super) duplicates: usize,
}

const DEADLINE: Duration = Duration::from_secs(15);
const ANSWER_GRACE: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            state: PluginState::default(),
            mode,
            now: Duration::ZERO,
            made: 0,
            own: None,
            own_gone_since: Duration::ZERO,
            server: None,
            kubelet_socket: None,
            kubelet: None,
            other: None,
            call: None,
            register_fails: false,
            bind_fails: false,
            duplicates: 0,
        }
    }

    fn fresh(&mut self) -> SocketId {
        self.made += 1;
        SocketId::example(self.made)
    }

    /// Whether pods can have our devices.
    pub(super) fn is_served(&self) -> bool {
        let endpoint = self.kubelet.as_ref().and_then(|kubelet| kubelet.endpoint);
        let open = |server: &Server| {
            server.stream == KubeletStream::Open && endpoint == Some((server.id, true))
        };
        self.server.as_ref().is_some_and(open)
            && matches!(self.state.stage, Stage::Registered { .. })
    }

    pub(super) fn kubelet_runs(&self) -> bool {
        self.kubelet.is_some()
    }

    pub(super) fn our_socket_goes(&mut self, replaced: bool) {
        self.own = replaced.then(|| self.fresh());
        self.own_gone_since = self.now;
    }

    pub(super) fn kubelet_starts(&mut self) {
        self.kubelet_dies();
        self.our_socket_goes(false);
        let socket = self.fresh();
        self.kubelet_socket = Some(socket);
        let (mode, clients) = (self.mode, BTreeMap::new());
        self.kubelet =
            Some(Kubelet { socket, mode, clients, handlers: Vec::new(), endpoint: None });
    }

    /// Its socket stays.
    pub(super) fn kubelet_dies(&mut self) {
        if self.kubelet.take().is_some() {
            self.other = None;
            self.stream_ends_here();
            self.break_call();
        }
    }

    pub(super) fn kubelet_socket_goes(&mut self) {
        self.kubelet_dies();
        self.kubelet_socket = None;
    }

    /// A fault on the way.
    pub(super) fn stream_is_cut(&mut self) {
        if let Some(server) = self.server.as_ref().map(|server| server.id) {
            self.stream_ends(server);
        }
    }

    pub(super) fn break_call(&mut self) {
        if let Some((on, _)) = self.call.take() {
            self.state = self.state.unanswered(on, self.now, true);
        }
    }

    /// Another plugin registers and is watched; its end comes later. It comes before ours: up to
    /// 1.36, one that comes after it takes the devices with it when it ends, and nothing tells us.
    pub(super) fn other_starts(&mut self) {
        self.other_ends();
        if self.server.as_ref().is_some_and(|server| server.stream == KubeletStream::Open) {
            return;
        }
        let server = self.fresh();
        if let Some(kubelet) = &mut self.kubelet {
            self.other = Some(server);
            kubelet.clients.insert(kubelet.key(server), server);
            kubelet.endpoint = Some((server, true));
        }
    }

    pub(super) fn other_ends(&mut self) {
        if let Some(server) = self.other.take() {
            self.stream_ends(server);
        }
    }

    /// The plugin is stopped, and another one comes in its place.
    pub(super) fn plugin_is_replaced(&mut self) {
        self.call = None;
        self.stop_server(true);
        self.state = PluginState::default();
    }

    fn stop_server(&mut self, removes: bool) {
        if let Some(server) = self.server.take() {
            if removes && self.own == Some(server.id) {
                self.our_socket_goes(false);
            }
            self.stream_ends(server.id);
        }
    }

    fn stream_ends_here(&mut self) {
        if let Some(server) = &mut self.server
            && server.stream == KubeletStream::Open
        {
            server.stream = KubeletStream::Ended { since: self.now };
        }
    }

    /// The kubelet's stream to this server ends, and the kubelet disconnects what it takes for that
    /// client.
    fn stream_ends(&mut self, server: ServerId) {
        let is_ours = self.server.as_ref().is_some_and(|ours| ours.id == server);
        let was_open = self.server.as_ref().is_some_and(|ours| ours.stream == KubeletStream::Open);
        if is_ours {
            if !was_open {
                return;
            }
            self.stream_ends_here();
        }
        let Some(kubelet) = &mut self.kubelet else { return };
        let key = kubelet.key(server);
        let Some(client) = kubelet.clients.remove(&key) else { return };
        let by_socket = kubelet.mode == Mode::From1_37;
        if let Some((of, allocatable)) = &mut kubelet.endpoint
            && (!by_socket || *of == server)
        {
            *allocatable = false;
        }
        if client != server && self.server.as_ref().is_some_and(|ours| ours.id == client) {
            self.stream_ends_here();
        }
    }

    fn observed(&self) -> Observed {
        let own = self.own.map_or(OwnSocket::Gone { since: self.own_gone_since }, OwnSocket::There);
        let stream = self.server.as_ref().map_or(KubeletStream::Never, |server| server.stream);
        Observed { now: self.now, own, kubelet: self.kubelet_socket, stream }
    }

    /// Time passes, and everything that is due in it happens. False: it spins.
    pub(super) fn pass(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        for _ in 0..2_000 {
            let Some(next) = self.settle() else { return false };
            if next > end {
                self.now = end;
                return true;
            }
            self.now = next.max(self.now);
        }
        false
    }

    /// Does all that there is to do at this moment. Returns when the next thing is due; `None`: it
    /// spins.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..50 {
            self.handle();
            self.end_call();
            let handlers = self.kubelet.iter().flat_map(|kubelet| &kubelet.handlers);
            let due = handlers.map(|handler| handler.due).min().unwrap_or(Duration::MAX);
            if let Some((_, deadline)) = self.call {
                let open = self.server.as_ref().filter(|of| of.stream == KubeletStream::Open);
                let shown = open.map_or(deadline, |server| server.open_since + ANSWER_GRACE);
                return Some(due.min(deadline).min(shown));
            }
            match self.state.next(&self.observed()) {
                Step::Wait(None) => return Some(due),
                Step::Wait(Some(until)) if until > self.now => return Some(due.min(until)),
                Step::Wait(Some(_)) => return None,
                step => self.take(&step),
            }
        }
        None
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Bind if self.bind_fails => self.state = self.state.bind_failed(self.now, 0.5),
            Step::Bind => {
                let id = self.fresh();
                self.own = Some(id);
                let (stream, open_since) = (KubeletStream::Never, Duration::ZERO);
                self.server = Some(Server { id, stream, open_since });
                self.state = self.state.bound(id);
            }
            Step::Register(on) => self.register(on),
            Step::Adopt => {
                let on = self.kubelet_socket.expect("there is one when a stream is open");
                self.state = self.state.registered(on, self.now);
            }
            Step::Restart(why) => {
                self.stop_server(true);
                self.state = self.state.ended(why);
            }
            Step::Wait(_) => {}
        }
    }

    fn register(&mut self, on: SocketId) {
        let server = self.server.as_ref().expect("Register only while a server runs").id;
        let now = self.now;
        let listens = self.kubelet.as_mut().filter(|kubelet| kubelet.socket == on);
        let Some(kubelet) = listens.filter(|_| !self.register_fails) else {
            self.state = self.state.register_failed(on, now, 0.5);
            return;
        };
        let key = kubelet.key(server);
        if kubelet.mode == Mode::From1_37 && kubelet.clients.contains_key(&key) {
            self.duplicates += 1;
            self.state = self.state.register_failed(on, now, 0.5);
            return;
        }
        kubelet.clients.insert(key, server);
        let delay = match kubelet.mode {
            Mode::AnswersAfter(seconds) => Duration::from_secs(seconds),
            Mode::UpTo1_36 | Mode::From1_37 => Duration::ZERO,
        };
        kubelet.handlers.push(Handler { server, due: now + delay });
        self.call = Some((on, now + DEADLINE));
    }

    /// The kubelet answers what is due.
    fn handle(&mut self) {
        let Some(kubelet) = &mut self.kubelet else { return };
        let now = self.now;
        for handler in kubelet.handlers.extract_if(.., |handler| handler.due <= now) {
            let key =
                if kubelet.mode == Mode::From1_37 { Some(handler.server.number()) } else { None };
            let ours = self.server.as_mut().filter(|server| server.id == handler.server);
            let answered = match ours {
                Some(server) => {
                    kubelet.endpoint = Some((server.id, true));
                    (server.stream, server.open_since) = (KubeletStream::Open, now);
                    true
                }
                // Nobody is at its socket any more.
                None => {
                    kubelet.clients.remove(&key);
                    false
                }
            };
            if answered && let Some((on, _)) = self.call.take() {
                self.state = self.state.registered(on, now);
            }
        }
    }

    /// The call is over without an answer: in time, or because a socket was replaced.
    fn end_call(&mut self) {
        let Some((on, deadline)) = self.call else { return };
        let own = self.server.as_ref().map(|server| server.id);
        if self.own != own || self.kubelet_socket != Some(on) {
            self.call = None;
            self.state = self.state.register_failed(on, self.now, 0.5);
        } else if self.now >= deadline {
            self.call = None;
            self.state = self.state.unanswered(on, self.now, false);
        }
    }
}

impl Kubelet {
    fn key(&self, server: ServerId) -> Option<u64> {
        (self.mode == Mode::From1_37).then(|| server.number())
    }
}
