//! The devices, the network between them, and what people and thieves do. What a device sent is put on its way after
//! every event; then what must always hold is looked at.

use super::device::{Device, Key, Known, named};
use super::ledger::{Ledger, Stray};
use super::network::{Network, Packet, Pair, pair};
use super::story::{Ask, At, Config, Forged, Lie, Step};
use super::thief::{self, Thief};
use crate::sim::check::Violation;
use crate::sim::rng::{Rng, mix};
use protocol::model::{DeviceId, FolderId, RealmId};
use protocol::realm::{Author, Commit, Link, RecoveryCode, Role, Roster, Whom};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::message::{EpochSecret, Heads, LinkBytes, Links, Message, Secrets};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use syncd::membership::Kept;

/// What the clock says at first; it decides nothing.
const BEGIN_SECS: u64 = 1_700_000_000;
/// A `Step::Wait`.
const MINUTE_SECS: u64 = 60;

/// Everything.
pub struct World {
    /// What the run is made of.
    pub config: Config,
    /// All devices.
    pub devices: Vec<Device>,
    /// What is between them.
    pub network: Network,
    /// What is known beside what devices believe.
    pub ledger: Ledger,
    /// What people read; only asked for sometimes.
    pub trace: Option<Vec<String>>,
    /// Of everything that happened.
    pub hasher: blake3::Hasher,
    /// Network events so far.
    pub happened: u64,
    /// Links that were signed.
    pub links: usize,
    rng: Rng,
    now: UnixSeconds,
    drawn: u64,
    codes: BTreeMap<RealmId, u64>,
}

type Checked = Result<(), Violation>;

impl World {
    /// Devices that know nobody.
    #[must_use]
    pub fn new(config: &Config, tracing: bool) -> Self {
        let mut world = Self {
            config: config.clone(),
            devices: Vec::new(),
            network: Network::new(config.wild),
            ledger: Ledger::default(),
            trace: tracing.then(Vec::new),
            hasher: blake3::Hasher::new(),
            happened: 0,
            links: 0,
            rng: Rng::new(config.seed, 0x776f_726c),
            now: UnixSeconds(BEGIN_SECS),
            drawn: 0,
            codes: BTreeMap::new(),
        };
        for _ in 0..config.devices {
            let identity = Identity::from_seed(&world.secret());
            world.devices.push(Device::new(identity, config.flaw));
        }
        world
    }

    fn secret(&mut self) -> Secret32 {
        self.drawn += 1;
        let mut bytes = [0; 32];
        let mut rng = Rng::new(self.config.seed, mix(self.drawn));
        bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&rng.next().to_le_bytes()));
        Secret32::new(bytes)
    }

    fn code(&self, realm: &RealmId) -> RecoveryCode {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.codes[realm].to_le_bytes());
        RecoveryCode::from_random(bytes)
    }

    /// Notes what happened.
    pub fn note(&mut self, words: &str) {
        self.hasher.update(words.as_bytes()).update(b"\n");
        if let Some(trace) = &mut self.trace {
            trace.push(words.to_owned());
        }
    }

    /// Which device has an id now.
    #[must_use]
    pub fn number(&self, id: &DeviceId) -> Option<usize> {
        self.devices.iter().position(|device| device.id == *id)
    }

    /// Does one step, as far as it makes sense.
    ///
    /// # Errors
    /// What no longer holds.
    pub fn step(&mut self, step: &Step) -> Checked {
        self.now.0 += 1;
        self.note(&format!("{step:?}"));
        match *step {
            Step::Pair { by, who, role } => self.pair(by, who, role),
            Step::Ask { by, ask, paper } => self.ask(by, ask, paper),
            Step::Leave { who } => self.leave(who),
            Step::Split { side, stalls } => {
                let across = self.network.split(side);
                across.into_iter().filter(|_| !stalls).for_each(|at| self.cut(at));
                Ok(())
            }
            Step::Heal => {
                self.network.split(0);
                Ok(())
            }
            Step::Cut { one, other } => {
                self.cut(pair(one, other));
                Ok(())
            }
            Step::Run { events } => (0..events).try_for_each(|_| self.event().map(|_| ())),
            Step::Kill { who, torn: true } if self.devices[who].thief.is_none() => {
                self.devices[who].torn = true;
                Ok(())
            }
            Step::Kill { who, .. } => self.restart(who),
            Step::Restore { who, back } => self.restore(who, back),
            Step::Steal { who } => {
                let device = &mut self.devices[who];
                let roster = device.disk.kept.as_ref().map(|kept| kept.roster().clone());
                device.thief = device.thief.take().or_else(|| roster.map(|roster| Thief { roster }));
                Ok(())
            }
            Step::Sign { who, at, forged, shows } => {
                let Some(who) = self.thief(who) else { return Ok(()) };
                self.forge(who, at, forged);
                shows.map_or(Ok(()), |to| self.show(who, to))
            }
            Step::Fill { who, links } => {
                let Some(who) = self.thief(who) else { return Ok(()) };
                (0..links).for_each(|_| self.forge(who, At::Anywhere, Forged::Name(who)));
                Ok(())
            }
            Step::Show { who, to } => self.thief(who).map_or(Ok(()), |who| self.show(who, to)),
            Step::Tell { who, to, lie } => self.thief(who).map_or(Ok(()), |who| self.lie(who, to, lie)),
            Step::Wait => self.wait(),
        }
    }

    /// A minute passes on every device.
    ///
    /// # Errors
    /// What no longer holds.
    pub fn wait(&mut self) -> Checked {
        self.now.0 += MINUTE_SECS;
        for who in 0..self.devices.len() {
            let (secret, now) = (self.secret(), self.now);
            if self.devices[who].thief.is_none() {
                self.devices[who].rotate_due(now, secret);
                self.settled(who)?;
            }
        }
        Ok(())
    }

    /// Devices that could begin a session.
    #[must_use]
    pub fn openable(&self) -> Vec<Pair> {
        let all = (0..self.devices.len()).flat_map(|one| (one + 1..self.devices.len()).map(move |other| (one, other)));
        all.filter(|(one, other)| self.network.joins(*one, *other) && !self.network.has(*one, *other))
            .filter(|(one, other)| self.meets(*one, *other))
            .collect()
    }

    fn meets(&self, one: usize, other: usize) -> bool {
        let dials = |from: &Device, to: &Device| {
            let answers = to.answers_to(&from.id);
            from.dials_with(&to.id).any(|key| answers.contains(&key))
        };
        let (one, other) = (&self.devices[one], &self.devices[other]);
        dials(one, other) || dials(other, one)
    }

    /// One event of the network; none is left when it says so.
    ///
    /// # Errors
    /// What no longer holds.
    pub fn event(&mut self) -> Result<bool, Violation> {
        let (openable, waiting) = (self.openable(), self.network.waiting());
        if openable.is_empty() && waiting.is_empty() {
            return Ok(false);
        }
        self.happened += 1;
        let chosen = self.rng.below(openable.len() + waiting.len());
        if let Some(at) = openable.get(chosen) {
            self.open(*at)?;
        } else if let Some(packet) = self.network.take(waiting[chosen - openable.len()], &mut self.rng) {
            self.deliver(packet)?;
        }
        Ok(true)
    }

    fn open(&mut self, at: Pair) -> Checked {
        self.note(&format!("{} and {} meet", at.0, at.1));
        self.network.open(at);
        let ids = (self.devices[at.0].id, self.devices[at.1].id);
        self.devices[at.0].connected(ids.1);
        self.devices[at.1].connected(ids.0);
        self.settled(at.0)?;
        self.settled(at.1)
    }

    fn deliver(&mut self, Packet { to, from, message }: Packet) -> Checked {
        let words = brief(&message);
        self.note(&format!("{from} -> {to}: {words}"));
        let id = self.devices[from].id;
        if self.devices[to].peers.contains(&id) {
            let now = self.now;
            self.devices[to].message(id, message, now);
        }
        self.settled(to)
    }

    /// Ends a session; what is under way is lost.
    pub fn cut(&mut self, at: Pair) {
        if at.0 != at.1 && self.network.close(at) {
            let ids = (self.devices[at.0].id, self.devices[at.1].id);
            self.devices[at.0].disconnected(&ids.1);
            self.devices[at.1].disconnected(&ids.0);
        }
    }

    /// After whatever a device did: sends, hangs up, dies if it has to, and looks at it.
    fn settled(&mut self, who: usize) -> Checked {
        for link in std::mem::take(&mut self.devices[who].signed) {
            self.links += 1;
            self.ledger.signed(&link);
        }
        if self.devices[who].killed {
            return self.restart(who);
        }
        let sent = std::mem::take(&mut self.devices[who].outbox);
        for sent in sent {
            if let (Some(words), None) = (sent.fault, &self.devices[who].thief) {
                return violated(
                    "removed devices are shut out",
                    format!("{who} sends {words}: {}", brief(&sent.message)),
                );
            }
            if let Some(to) = self.number(&sent.to) {
                self.network.send(who, to, sent.message);
            }
        }
        for (from, refused) in std::mem::take(&mut self.devices[who].broken) {
            let Some(from) = self.number(&from) else { continue };
            if self.devices[from].thief.is_none() && !self.network.is_wild() {
                return violated("honest links are taken", format!("{who} refuses what {from} sent: {refused}"));
            }
            self.cut(pair(who, from));
        }
        for at in self.network.sessions().into_iter().filter(|at| at.0 == who || at.1 == who) {
            let (other, own) = (if at.0 == who { at.1 } else { at.0 }, self.devices[who].id);
            let has_hung_up = !self.devices[who].peers.contains(&self.devices[other].id);
            if has_hung_up || !self.devices[other].peers.contains(&own) {
                self.cut(at);
            }
        }
        let hash = self.devices[who].roster().map(Roster::hash);
        self.hasher.update(&hash.map_or([0; 32], |hash| hash.0));
        self.ledger.look(who, &self.devices[who])
    }

    fn restart(&mut self, who: usize) -> Checked {
        self.note(&format!("{who} starts again"));
        for other in 0..self.devices.len() {
            self.cut(pair(who, other));
        }
        self.devices[who].restarted();
        self.settled(who)
    }

    fn restore(&mut self, who: usize, back: u8) -> Checked {
        let device = &mut self.devices[who];
        let Some(place) = device.backups.len().checked_sub(usize::from(back)).filter(|_| device.thief.is_none()) else {
            return Ok(());
        };
        device.disk = device.backups[place].clone();
        device.backups.truncate(place);
        device.restored = true;
        self.ledger.restored(who);
        self.restart(who)
    }

    fn pair(&mut self, by: usize, who: usize, role: Role) -> Checked {
        let is_bound = |one: &Device, other: &Device| {
            let realm = one.view();
            realm.is_some_and(|realm| realm.members.keys().any(|id| *id != one.id && *id != other.id))
        };
        let (shows, types) = (&self.devices[by], &self.devices[who]);
        let apart = shows.realm_id() != types.realm_id() && is_bound(shows, types) && is_bound(types, shows);
        let removed = |one: &Device, other: &Device| one.view().is_some_and(|realm| realm.removed.contains(&other.id));
        let refused = [(shows, types), (types, shows)].into_iter().any(|(one, other)| removed(one, other));
        let may_add = [shows, types].into_iter().all(Device::may_add);
        if by == who || apart || refused || !may_add || !self.network.joins(by, who) || shows.thief.is_some() {
            return Ok(());
        }
        if self.devices[by].disk.kept.is_none() {
            self.found(by);
        }
        self.drawn += 1;
        let key = Key::Met(self.drawn);
        let (shown, typed) = (self.devices[by].id, self.devices[who].id);
        let (own, other) = (self.devices[by].identity.public(), self.devices[who].identity.public());
        self.devices[by].disk.known.insert(typed, Known { public: other, key, previous: None });
        self.devices[who].disk.known.insert(shown, Known { public: own, key, previous: None });
        self.devices[by].roles.insert(typed, role);
        self.cut(pair(by, who));
        self.open(pair(by, who))
    }

    fn found(&mut self, who: usize) {
        let secret = self.secret();
        self.drawn += 1;
        let (number, now) = (self.drawn, self.now);
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let public = RecoveryCode::from_random(bytes).public();
        let device = &mut self.devices[who];
        let genesis = Link::genesis(&device.identity, named("first"), public, Commit::to(&secret), now);
        let mut kept = Kept::of(Roster::new(genesis.as_bytes()).expect("a good first link"));
        let epoch = *genesis.hash().as_bytes();
        kept.learn(&[EpochSecret { epoch, secret: secret.clone() }]);
        device.wallet.insert(epoch, secret);
        device.keep(kept);
        self.codes.insert(genesis.realm(), number);
        self.ledger.signed(&genesis);
        self.devices[who].meet_strangers(now);
    }

    fn ask(&mut self, by: usize, ask: Ask, paper: bool) -> Checked {
        let secret = self.secret();
        self.drawn += 1;
        let name = named(&format!("name {}", self.drawn));
        let device = &self.devices[by];
        let (Some(kept), None) = (&device.disk.kept, &device.thief) else { return Ok(()) };
        // No device is asked to remove itself, and one that is out does nothing, not with the code either: it would choose the
        // secret that it must not know.
        if matches!(ask, Ask::Remove(who) | Ask::Disown(who) if who == by) || !device.is_member() {
            return Ok(());
        }
        let code = self.code(&kept.realm().id);
        let author = if paper { Author::Recovery(&code) } else { Author::Device(&device.identity) };
        let (roster, commit, now) = (kept.roster(), Commit::to(&secret), self.now);
        let (link, begins) = match ask {
            Ask::Remove(who) => (roster.remove(author, self.devices[who].id, commit, now), true),
            Ask::Disown(who) => (roster.disown(author, self.devices[who].id, commit, now), true),
            Ask::Set(who, role) => (roster.set(author, self.devices[who].id, role, now), false),
            Ask::Rename(who) => (roster.rename(author, self.devices[who].id, name, now), false),
            Ask::Rotate => (roster.rotate(author, commit, now), true),
            Ask::Share { folder, who, is_in, others } => {
                let said = self.said(by, who, is_in, others);
                (roster.share(author, FolderId([folder; 16]), &said, now), false)
            }
        };
        match link {
            Ok(link) if !kept.stays_with(&device.id, &link) => self.note("denied: it would go with it"),
            Ok(link) => {
                self.ledger.removes(&link);
                self.devices[by].sign(link, begins.then_some(secret));
            }
            Err(denied) => self.note(&format!("denied: {denied}")),
        }
        self.settled(by)
    }

    /// Whoever says that everyone is out does not mean itself.
    fn said(&self, by: usize, who: usize, is_in: bool, others: Option<bool>) -> Vec<(Whom, bool)> {
        let mut said = BTreeMap::from([(Whom::Device(self.devices[who].id), is_in)]);
        if let Some(others) = others {
            said.insert(Whom::Everyone, others);
            said.insert(Whom::Device(self.devices[by].id), true);
        }
        said.into_iter().collect()
    }

    /// It says goodbye, and is another device from now on. What it says may be cut short.
    fn leave(&mut self, who: usize) -> Checked {
        if self.devices[who].thief.is_some() || self.devices[who].disk.kept.is_none() {
            return Ok(());
        }
        let now = self.now;
        if let Some(link) = self.devices[who].farewell(now) {
            self.links += 1;
            self.ledger.signed(&link);
            self.settled(who)?;
            let own: Vec<(Pair, usize)> = self.network.waiting();
            let from = |(at, way): &(Pair, usize)| if *way == 0 { at.0 } else { at.1 };
            for way in own.into_iter().filter(|way| from(way) == who) {
                while let Some(packet) = self.network.take(way, &mut self.rng) {
                    self.deliver(packet)?;
                }
            }
        }
        for other in 0..self.devices.len() {
            self.cut(pair(who, other));
        }
        let identity = Identity::from_seed(&self.secret());
        let gone = std::mem::replace(&mut self.devices[who], Device::new(identity, self.config.flaw));
        self.ledger.left(who, gone.id, gone.wallet);
        Ok(())
    }

    /// One of the thieves.
    fn thief(&self, number: usize) -> Option<usize> {
        let thieves = (0..self.devices.len()).filter(|who| self.devices[*who].thief.is_some());
        let thieves: Vec<usize> = thieves.collect();
        thieves.get(number % thieves.len().max(1)).copied()
    }

    /// One of those that a device is connected to.
    fn peer(&self, who: usize, number: usize) -> Option<DeviceId> {
        let peers = &self.devices[who].peers;
        peers.iter().nth(number % peers.len().max(1)).copied()
    }

    fn forge(&mut self, who: usize, at: At, forged: Forged) {
        self.drawn += 1;
        let (text, fake) = (format!("stray {}", self.drawn), Identity::from_seed(&self.secret()).public());
        let (commit, device) = (*self.secret().expose(), &self.devices[who]);
        let Some(thief) = &device.thief else { return };
        let id = |who: usize| self.devices[who].id;
        let (said, stray) = match forged {
            Forged::Add => (thief::add(&fake, Role::Admin, &text), Stray::Device(fake.id())),
            Forged::Again(who, role) => {
                (thief::add(&self.devices[who].identity.public(), role, &text), Stray::Name(text))
            }
            Forged::Remove(target) => (thief::remove(&id(target), commit), Stray::Nothing),
            Forged::Set(target, role) => (thief::set(&id(target), role), Stray::Nothing),
            Forged::Name(target) => (thief::name(&id(target), &text), Stray::Name(text)),
            Forged::Rotate => (thief::rotate(commit), Stray::Nothing),
            Forged::Share { folder, who, is_in } => (thief::share(folder, &id(who), is_in), Stray::Nothing),
        };
        let parents = thief.parents(&device.id, at, &mut self.rng);
        let link = thief::sign(&device.identity, &thief.roster, &parents, said, self.now.0);
        let (own, device) = (device.id, &mut self.devices[who]);
        let is_taken = device.thief.as_mut().is_some_and(|thief| thief.roster.insert(link.as_bytes()).is_ok());
        if is_taken || self.config.flood {
            self.links += 1;
            self.ledger.signed(&link);
            self.ledger.strays(&link, own, stray);
        }
    }

    fn show(&mut self, who: usize, to: usize) -> Checked {
        let device = &self.devices[who];
        let (Some(thief), Some(id)) = (&device.thief, self.peer(who, to)) else { return Ok(()) };
        let links = thief.chosen(&device.id, &mut self.rng);
        for some in links.chunks(protocol::limits::LINKS_PER_MESSAGE_MAX) {
            self.devices[who].say(id, Message::Links(Links { links: some.to_vec() }));
        }
        self.settled(who)
    }

    fn lie(&mut self, who: usize, to: usize, lie: Lie) -> Checked {
        let secret = self.secret();
        let device = &self.devices[who];
        let (Some(thief), Some(id)) = (&device.thief, self.peer(who, to)) else { return Ok(()) };
        let epoch = *thief.roster.resolve().epoch().link.as_bytes();
        let links = |bytes: Vec<u8>| Message::Links(Links { links: vec![LinkBytes(bytes)] });
        let message = match lie {
            Lie::Noise => links(secret.expose().to_vec()),
            Lie::Signature => {
                let last = thief.roster.links().last().expect("a roster has links");
                let mut bytes = last.as_bytes().to_vec();
                // In the time, of which nothing else depends.
                bytes[40] ^= 1;
                links(bytes)
            }
            Lie::Secret => Message::Secrets(Secrets { secrets: vec![EpochSecret { epoch, secret }] }),
            Lie::Heads => {
                let realm = Some(*thief.roster.id().as_bytes());
                Message::Heads(Heads {
                    realm,
                    others: 9,
                    heads: vec![*secret.expose()],
                    epochs: vec![*secret.expose()],
                })
            }
        };
        self.devices[who].say(id, message);
        self.settled(who)
    }

    /// Two devices that know each other as members and share nothing to meet with are paired once more, by people.
    pub fn pair_again(&mut self, one: usize, other: usize) {
        self.drawn += 1;
        let key = Key::Met(self.drawn);
        for (from, to) in [(one, other), (other, one)] {
            let (id, public) = (self.devices[to].id, self.devices[to].identity.public());
            self.devices[from].disk.known.insert(id, Known { public, key, previous: None });
        }
    }
}

/// A property does not hold.
pub(super) fn violated<T>(property: &'static str, words: String) -> Result<T, Violation> {
    Err(Violation { property, words })
}

/// What a message says, for people.
fn brief(message: &Message) -> String {
    match message {
        Message::Heads(heads) => format!("heads {} epochs {}", short(&heads.heads), short(&heads.epochs)),
        Message::Links(links) => {
            let hashes = links.links.iter().filter_map(|link| Link::parse(&link.0).ok());
            let mut words = format!("{} links", links.links.len());
            for link in hashes.take(12) {
                // Writing to a string does not fail.
                let _ = write!(words, " {:02x}{:02x}", link.hash().0[0], link.hash().0[1]);
            }
            words
        }
        Message::Secrets(told) => {
            format!("secrets {}", short(&told.secrets.iter().map(|secret| secret.epoch).collect::<Vec<_>>()))
        }
        _ => "something else".to_owned(),
    }
}

fn short(hashes: &[[u8; 32]]) -> String {
    hashes.iter().map(|hash| format!("{:02x}{:02x}", hash[0], hash[1])).collect::<Vec<_>>().join(" ")
}
