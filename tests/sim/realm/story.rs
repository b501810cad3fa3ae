//! What happens in a run: drawn whole from the seed, so that steps can be left out. Each step is read leniently: what
//! makes no sense where it comes is passed over.

use crate::sim::realm::flaw::Flaw;
use crate::sim::rng::Rng;
use protocol::realm::Role;
use std::fmt;

/// Devices of a run, at most; the fewest are two.
pub const DEVICES_MAX: usize = 8;
/// Steps of a story.
const STEPS_MIN: usize = 60;
const STEPS_MAX: usize = 160;
/// Folders that lists speak of.
const FOLDERS: u8 = 2;
/// One in so many stories has a thief that reaches the bound of what one device may sign.
const FLOOD_ONE_IN: usize = 150;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Decides everything else.
    pub seed: u64,
    /// How many there can be.
    pub devices: usize,
    /// The network loses, doubles and reorders single messages inside a session, which no channel of ours does.
    pub wild: bool,
    /// A thief signs more than one device may: rosters may differ in what is over the bound.
    pub flood: bool,
    /// What every honest device does wrong.
    pub flaw: Option<Flaw>,
}

/// What a person wants of a device.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// Take a device out.
    Remove(usize),
    /// Take it out with all it signed.
    Disown(usize),
    /// Change what it may do.
    Set(usize, Role),
    /// Call it something new.
    Rename(usize),
    /// Begin an epoch.
    Rotate,
    /// Say whether a device, and perhaps everyone else, is in a folder.
    Share { folder: u8, who: usize, is_in: bool, others: Option<bool> },
}

/// Where in its roster a thief puts a link.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// After everything it knows.
    End,
    /// Where it was removed, beside the removal, or after everything if it was not.
    Beside,
    /// Anywhere.
    Anywhere,
}

/// What a thief signs.
#[derive(Clone, Copy, Debug)]
pub enum Forged {
    /// A device that does not exist joins.
    Add,
    /// One of the fleet is added once more, removed or not.
    Again(usize, Role),
    /// Takes a device out.
    Remove(usize),
    /// Changes what a device may do, itself included.
    Set(usize, Role),
    /// Names a device.
    Name(usize),
    /// Begins an epoch; nobody gets the secret.
    Rotate,
    /// Says whether a device is in a folder.
    Share { folder: u8, who: usize, is_in: bool },
}

/// What a thief sends that no honest device would.
#[derive(Clone, Copy, Debug)]
pub enum Lie {
    /// A link with a signature of somebody else.
    Signature,
    /// Bytes.
    Noise,
    /// A secret that is not that of its epoch.
    Secret,
    /// Heads that nobody has.
    Heads,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// One shows a code, the other types it. Where that takes it in, it gets this role.
    Pair { by: usize, who: usize, role: Role },
    /// A person asks for a change, on a device or with the recovery code typed there.
    Ask { by: usize, ask: Ask, paper: bool },
    /// A device leaves and becomes another one.
    Leave { who: usize },
    /// The network falls into two; sessions across are cut, or only stall.
    Split { side: u8, stalls: bool },
    /// The network is whole again.
    Heal,
    /// One session is cut, with what was under way.
    Cut { one: usize, other: usize },
    /// So many events of the network.
    Run { events: u8 },
    /// A device is killed and started again, once it has saved its next change and before it acts on it, or at once.
    Kill { who: usize, torn: bool },
    /// A device is put back to what it had saved some changes ago.
    Restore { who: usize, back: u8 },
    /// Somebody has that device from now on.
    Steal { who: usize },
    /// A thief signs something, and may show it at once. Of thieves, and of whom they are connected to, the numbers go round.
    Sign { who: usize, at: At, forged: Forged, shows: Option<usize> },
    /// A thief signs that many names for itself.
    Fill { who: usize, links: u16 },
    /// A thief shows a device some of what it has.
    Show { who: usize, to: usize },
    /// A thief sends a device something wrong.
    Tell { who: usize, to: usize, lie: Lie },
    /// A minute passes.
    Wait,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Story {
    /// What it is made of.
    pub config: Config,
    /// What happens, in this order.
    pub steps: Vec<Step>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.config)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

impl Story {
    /// The story of a seed.
    #[must_use]
    pub fn draw(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut rng = Rng::new(seed, 0x7265_616c);
        let devices = 2 + rng.below(DEVICES_MAX - 1);
        let flood = rng.below(FLOOD_ONE_IN) == 0;
        let config = Config { seed, devices, wild: rng.chance(40), flood, flaw };
        let mut steps = Vec::new();
        // Stories begin with half of the devices together, or more.
        for who in 1..=devices / 2 + rng.below(devices - devices / 2) {
            let by = if rng.chance(70) { 0 } else { rng.below(who) };
            steps.push(Step::Pair { by, who, role: role(&mut rng) });
            steps.push(Step::Run { events: 40 });
        }
        for _ in 0..STEPS_MIN + rng.below(STEPS_MAX - STEPS_MIN) {
            steps.push(step(&mut rng, devices));
        }
        if flood {
            let at = steps.len() / 2;
            let who = rng.below(devices);
            let to = rng.below(devices);
            steps.splice(at..at, [Step::Steal { who }, Step::Fill { who, links: 540 }, Step::Show { who, to }]);
        }
        Self { config, steps }
    }
}

fn role(rng: &mut Rng) -> Role {
    *rng.pick(&[Role::Admin, Role::Admin, Role::Admin, Role::Full, Role::Reader])
}

fn ask(rng: &mut Rng, devices: usize) -> Ask {
    let who = rng.below(devices);
    match rng.below(14) {
        0..=2 => Ask::Remove(who),
        3 => Ask::Disown(who),
        4..=6 => Ask::Set(who, role(rng)),
        7..=8 => Ask::Rename(who),
        9 => Ask::Rotate,
        _ => Ask::Share {
            folder: folder(rng),
            who,
            is_in: rng.chance(50),
            others: *rng.pick(&[None, None, Some(false), Some(true)]),
        },
    }
}

fn forged(rng: &mut Rng, devices: usize) -> Forged {
    let who = rng.below(devices);
    match rng.below(14) {
        0..=2 => Forged::Add,
        3..=4 => Forged::Again(who, role(rng)),
        5..=6 => Forged::Remove(who),
        7..=8 => Forged::Set(who, role(rng)),
        9..=10 => Forged::Name(who),
        11 => Forged::Rotate,
        _ => Forged::Share { folder: folder(rng), who, is_in: rng.chance(60) },
    }
}

fn folder(rng: &mut Rng) -> u8 {
    u8::try_from(rng.below(FOLDERS.into())).expect("a few folders")
}

fn step(rng: &mut Rng, devices: usize) -> Step {
    let (who, other) = (rng.below(devices), rng.below(devices));
    match rng.below(100) {
        0..=9 => Step::Pair { by: who, who: other, role: role(rng) },
        10..=28 | 68..=69 => Step::Ask { by: who, ask: ask(rng, devices), paper: rng.chance(15) },
        29 => Step::Leave { who },
        30..=34 => Step::Split { side: rng.next().to_le_bytes()[0], stalls: rng.chance(40) },
        35..=38 => Step::Heal,
        39..=41 => Step::Cut { one: who, other },
        42..=61 => Step::Run { events: 1 + u8::try_from(rng.below(30)).expect("below 30") },
        62..=65 => Step::Kill { who, torn: rng.chance(60) },
        66 => Step::Restore { who, back: 1 + u8::try_from(rng.below(6)).expect("below 6") },
        67 => Step::Steal { who },
        70..=86 => {
            let at = *rng.pick(&[At::End, At::Beside, At::Beside, At::Anywhere]);
            Step::Sign { who, at, forged: forged(rng, devices), shows: rng.chance(60).then_some(other) }
        }
        87 => Step::Fill { who, links: 9 + u16::try_from(rng.below(12)).expect("below 12") },
        88..=93 => Step::Show { who, to: other },
        94..=95 => {
            Step::Tell { who, to: other, lie: *rng.pick(&[Lie::Signature, Lie::Noise, Lie::Secret, Lie::Heads]) }
        }
        _ => Step::Wait,
    }
}
