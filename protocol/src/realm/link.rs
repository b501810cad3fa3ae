//! One signed change to the roster. Its layout is SPEC.md section 14; it is hashed and signed as the bytes that
//! were received and never encoded again.
//! Invariant: whatever [`Link::parse`] returns is within every bound of `limits` that concerns a single link.

use crate::limits::{LINK_BODY_LEN_MAX, LINK_PARENTS_MAX, NAME_LEN_MAX, ROSTER_LINK_LEN_MAX, SHARE_DEVICES_MAX};
use crate::model::{DeviceId, FolderId, LinkHash, RealmId};
use crate::wire::identity::PublicIdentity;
use crate::wire::kdf::{Secret32, UnixSeconds, kdf};
use ed25519_dalek::{Signature, VerifyingKey};
use std::fmt;

/// What signatures of links begin with.
const DOMAIN: &[u8] = b"syncd v1 roster\0";
/// Length of a signature, the last part of a link.
const SIGNATURE_LEN: usize = 64;
/// Stands for the realm in its own first link, for the recovery key where a device would sign, and for everyone in a
/// SHARE.
const ZEROS: [u8; 32] = [0; 32];

/// Bytes that are no link of the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no link of a roster")]
pub struct Malformed;

/// Why a text cannot name a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text at all, or more than `NAME_LEN_MAX` bytes.
    #[error("a device name has 1 to {NAME_LEN_MAX} bytes")]
    Length,
    /// A character that could rewrite the line it is shown in.
    #[error("a device name has no control characters and none that turn the direction of writing")]
    Character,
}

/// What a device is called: 1 to `NAME_LEN_MAX` bytes of UTF-8, no control characters, nothing that breaks a line or
/// turns its direction. The characters are listed in SPEC.md and never change, since all devices must refuse the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Takes a text that keeps to the rule.
    ///
    /// # Errors
    /// Which part of the rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_LEN_MAX {
            return Err(NameError::Length);
        }
        if text.chars().any(|c| c.is_control() || turns(c)) {
            Err(NameError::Character)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Marks of direction, and the two separators that end a line.
const fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads folders; what it writes is refused by everyone.
    Reader,
    /// Reads and writes.
    Full,
    /// Reads, writes, and changes the roster.
    Admin,
}

impl Role {
    /// role u8 ‖ admin u8.
    const fn bytes(self) -> [u8; 2] {
        match self {
            Self::Full => [0, 0],
            Self::Admin => [0, 1],
            Self::Reader => [1, 0],
        }
    }

    const fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        match bytes {
            [0, 0] => Some(Self::Full),
            [0, 1] => Some(Self::Admin),
            [1, 0] => Some(Self::Reader),
            _ => None,
        }
    }
}

/// KDF("realm epoch"; realm secret): tells the secret of an epoch from any other without giving it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(pub [u8; 32]);

impl Commit {
    /// To a secret.
    #[must_use]
    pub fn to(secret: &Secret32) -> Self {
        Self(kdf("realm epoch", &[secret.expose()]))
    }
}

/// Length of the longest way from a link back to the first; that one has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// Whose key signed a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signer {
    /// The key of the recovery code, which stands over all devices.
    Recovery,
    /// A device.
    Device(DeviceId),
}

impl Signer {
    const fn bytes(&self) -> &[u8; 32] {
        match self {
            Self::Recovery => &ZEROS,
            Self::Device(id) => id.as_bytes(),
        }
    }
}

/// Of whom a SHARE speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whom {
    /// Every device that the link does not name, also those that are added later.
    Everyone,
    /// One device.
    Device(DeviceId),
}

impl Whom {
    const fn bytes(&self) -> &[u8; 32] {
        match self {
            Self::Everyone => &ZEROS,
            Self::Device(id) => id.as_bytes(),
        }
    }
}

/// Body of the first link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The device that founds the realm: full, admin, senior to all.
    pub device: PublicIdentity,
    /// Ed25519 public key of the recovery code.
    pub recovery: [u8; 32],
    /// The first epoch's secret.
    pub commit: Commit,
    /// What the device is called.
    pub name: DeviceName,
}

/// What a link changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// 0: founds the realm.
    Genesis(Genesis),
    /// 1: takes a device in.
    Add {
        /// Its keys; they make up its id.
        device: PublicIdentity,
        /// What it may do at first.
        role: Role,
        /// What it is called at first.
        name: DeviceName,
    },
    /// 2: takes a device out, for ever, and begins an epoch.
    Remove {
        /// Which.
        device: DeviceId,
        /// The new epoch's secret, which that device does not get; zeros when a device leaves by itself.
        commit: Commit,
    },
    /// 3: changes what a device may do.
    Set {
        /// Which.
        device: DeviceId,
        /// What from now on.
        role: Role,
    },
    /// 4: renames a device.
    Name {
        /// Which.
        device: DeviceId,
        /// What it is called from now on.
        name: DeviceName,
    },
    /// 5: begins an epoch.
    Rotate {
        /// The new epoch's secret.
        commit: Commit,
    },
    /// 6: says who is in a folder. Before any, everyone is.
    Share {
        /// Which.
        folder: FolderId,
        /// 1 to `SHARE_DEVICES_MAX`, ascending: whether they are in it.
        who: Vec<(Whom, bool)>,
    },
    /// A later version's change: kept and passed on, without effect.
    Unknown(u8),
}

impl Op {
    /// The role that it gives a device.
    pub(super) const fn role(&self) -> Option<Role> {
        match self {
            Self::Add { role, .. } | Self::Set { role, .. } => Some(*role),
            _ => None,
        }
    }

    /// The number and body on the wire. Nobody writes an unknown one: it is carried as the bytes it came in.
    fn encode(&self) -> (u8, Vec<u8>) {
        let named = |name: &DeviceName| {
            let len = u8::try_from(name.0.len()).expect("a name is at most 64 bytes");
            [&[len], name.0.as_bytes()].concat()
        };
        match self {
            Self::Genesis(Genesis { device, recovery, commit, name }) => {
                (0, [&device.ed[..], &device.x, recovery, &commit.0, &named(name)].concat())
            }
            Self::Add { device, role, name } => (1, [&device.ed[..], &device.x, &role.bytes(), &named(name)].concat()),
            Self::Remove { device, commit } => (2, [device.0, commit.0].concat()),
            Self::Set { device, role } => (3, [&device.0[..], &role.bytes()].concat()),
            Self::Name { device, name } => (4, [&device.0[..], &named(name)].concat()),
            Self::Rotate { commit } => (5, commit.0.to_vec()),
            Self::Share { folder, who } => {
                let len = u8::try_from(who.len()).expect("a link speaks of at most 15 devices");
                let said = who.iter().flat_map(|(whom, is_in)| [&whom.bytes()[..], &[u8::from(*is_in)]].concat());
                (6, folder.0.into_iter().chain([len]).chain(said).collect())
            }
            Self::Unknown(number) => (*number, Vec::new()),
        }
    }

    fn parse(number: u8, body: &[u8]) -> Option<Self> {
        let mut rest = Reader(body);
        let op = match number {
            0 => Self::Genesis(Genesis {
                device: rest.identity()?,
                recovery: rest.array()?,
                commit: Commit(rest.array()?),
                name: rest.name()?,
            }),
            1 => Self::Add { device: rest.identity()?, role: Role::from_bytes(rest.array()?)?, name: rest.name()? },
            2 => Self::Remove { device: DeviceId(rest.array()?), commit: Commit(rest.array()?) },
            3 => Self::Set { device: DeviceId(rest.array()?), role: Role::from_bytes(rest.array()?)? },
            4 => Self::Name { device: DeviceId(rest.array()?), name: rest.name()? },
            5 => Self::Rotate { commit: Commit(rest.array()?) },
            6 => Self::Share { folder: FolderId(rest.array()?), who: rest.who()? },
            _ => return Some(Self::Unknown(number)),
        };
        rest.0.is_empty().then_some(op)
    }
}

/// What is left of the bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn identity(&mut self) -> Option<PublicIdentity> {
        Some(PublicIdentity { ed: self.array()?, x: self.array()? })
    }

    fn who(&mut self) -> Option<Vec<(Whom, bool)>> {
        let len = Some(usize::from(self.byte()?)).filter(|len| (1..=SHARE_DEVICES_MAX).contains(len))?;
        let who = (0..len).map(|_| self.word()).collect::<Option<Vec<_>>>()?;
        who.is_sorted_by(|one, next| one.0 < next.0).then_some(who)
    }

    fn word(&mut self) -> Option<(Whom, bool)> {
        let whom = match self.array()? {
            ZEROS => Whom::Everyone,
            id => Whom::Device(DeviceId(id)),
        };
        match self.byte()? {
            said @ 0..=1 => Some((whom, said == 1)),
            _ => None,
        }
    }

    fn name(&mut self) -> Option<DeviceName> {
        let len = self.byte()?.into();
        let text = std::str::from_utf8(self.bytes(len)?).ok()?;
        DeviceName::new(text).ok()
    }
}

/// A link as it was received, and what it says. Nothing is said about its signature: see [`Roster`](super::Roster).
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    bytes: Vec<u8>,
    hash: LinkHash,
    realm: RealmId,
    generation: Generation,
    time: UnixSeconds,
    parents: Vec<LinkHash>,
    op: Op,
    signer: Signer,
}

impl Link {
    /// Reads a link.
    ///
    /// # Errors
    /// When the bytes are not exactly one link.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > ROSTER_LINK_LEN_MAX {
            return Err(Malformed);
        }
        Self::read(bytes).filter(Self::is_well_formed).ok_or(Malformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let named_realm = rest.array()?;
        let generation = Generation(u32::from_be_bytes(rest.array()?));
        let time = UnixSeconds(u64::from_be_bytes(rest.array()?));
        let parents_len = Some(usize::from(rest.byte()?)).filter(|len| *len <= LINK_PARENTS_MAX)?;
        let parents = (0..parents_len).map(|_| rest.array().map(LinkHash)).collect::<Option<Vec<_>>>()?;
        let number = rest.byte()?;
        let body_len = Some(usize::from(u16::from_be_bytes(rest.array()?))).filter(|len| *len <= LINK_BODY_LEN_MAX)?;
        let op = Op::parse(number, rest.bytes(body_len)?)?;
        let signer = match rest.array()? {
            ZEROS => Signer::Recovery,
            id => Signer::Device(DeviceId(id)),
        };
        let _signature: [u8; SIGNATURE_LEN] = rest.array()?;
        let realm = match (&op, named_realm) {
            (Op::Genesis(_), ZEROS) => RealmId(kdf("realm id", &[bytes])),
            (Op::Genesis(_), _) | (_, ZEROS) => return None,
            (_, id) => RealmId(id),
        };
        let hash = LinkHash(kdf("roster link", &[bytes]));
        let link = Self { bytes: bytes.to_vec(), hash, realm, generation, time, parents, op, signer };
        rest.0.is_empty().then_some(link)
    }

    /// The rules between the parts: only the first link has no parents and generation 0, and its founder signs it.
    fn is_well_formed(&self) -> bool {
        let ascending = self.parents.is_sorted_by(|one, next| one < next);
        let fits = match &self.op {
            Op::Genesis(genesis) => {
                self.parents.is_empty()
                    && self.generation == Generation(0)
                    && self.signer == Signer::Device(genesis.device.id())
            }
            _ => !self.parents.is_empty() && self.generation > Generation(0),
        };
        ascending && fits
    }

    /// The bytes, as received.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// KDF("roster link"; bytes).
    #[must_use]
    pub const fn hash(&self) -> LinkHash {
        self.hash
    }

    /// The realm it belongs to; for a first link the one that it founds.
    #[must_use]
    pub const fn realm(&self) -> RealmId {
        self.realm
    }

    /// 0 for the first link, else one more than the greatest of its parents.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The author's clock when it was signed; for people, it decides nothing.
    #[must_use]
    pub const fn time(&self) -> UnixSeconds {
        self.time
    }

    /// The heads that its author knew, ascending.
    #[must_use]
    pub fn parents(&self) -> &[LinkHash] {
        &self.parents
    }

    /// What it changes.
    #[must_use]
    pub const fn op(&self) -> &Op {
        &self.op
    }

    /// The device that it adds to the realm.
    pub(super) const fn newcomer(&self) -> Option<&PublicIdentity> {
        match &self.op {
            Op::Genesis(Genesis { device, .. }) | Op::Add { device, .. } => Some(device),
            _ => None,
        }
    }

    /// Who signed it, if the signature is right.
    #[must_use]
    pub const fn signer(&self) -> Signer {
        self.signer
    }

    /// Whether `ed` made the signature; weak keys make none.
    pub(super) fn is_signed_by(&self, ed: &[u8; 32]) -> bool {
        let Some((signed, signature)) = self.bytes.split_last_chunk::<SIGNATURE_LEN>() else {
            return false;
        };
        let key = VerifyingKey::from_bytes(ed);
        key.is_ok_and(|key| key.verify_strict(&[DOMAIN, signed].concat(), &Signature::from_bytes(signature)).is_ok())
    }
}

/// What it says, without its bytes.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} generation {} by {:?}: {:?}", self.hash, self.generation.0, self.signer, self.op)
    }
}

/// A link that nobody has signed yet.
pub(super) struct Unsigned {
    /// `None` in a first link.
    pub(super) realm: Option<RealmId>,
    pub(super) generation: Generation,
    pub(super) time: UnixSeconds,
    /// Any order, none twice.
    pub(super) parents: Vec<LinkHash>,
    pub(super) op: Op,
}

impl Unsigned {
    /// Encodes it, and has `sign` make the signature of `signer`.
    pub(super) fn sign(mut self, signer: Signer, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Link {
        self.parents.sort();
        let (number, body) = self.op.encode();
        let parents_len = u8::try_from(self.parents.len()).expect("a link has at most eight parents");
        let body_len = u16::try_from(body.len()).expect("a body is at most 512 bytes");
        let mut signed = DOMAIN.to_vec();
        signed.extend(self.realm.map_or(ZEROS, |realm| realm.0));
        signed.extend(self.generation.0.to_be_bytes());
        signed.extend(self.time.0.to_be_bytes());
        signed.push(parents_len);
        signed.extend(self.parents.iter().flat_map(|parent| parent.0));
        signed.push(number);
        signed.extend(body_len.to_be_bytes());
        signed.extend(body);
        signed.extend(signer.bytes());
        let signature = sign(&signed);
        let bytes = [&signed[DOMAIN.len()..], &signature[..]].concat();
        Link::parse(&bytes).expect("what is encoded within the bounds can be read")
    }
}
