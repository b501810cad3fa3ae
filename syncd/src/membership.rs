//! The realm that this device belongs to, as a home keeps it in `HOME/keys/realm`: the signed list of its devices, and
//! the secrets of its latest epochs. Any two listed devices derive from those what they need to meet.
//! Invariant: what is in memory is on disk. A secret is kept only when it is the one that an epoch's author chose.

mod exchange;

pub use exchange::{Exchange, Outcome, Taking};

use crate::keys::{hex, read_private, unhex, write_private};
use anyhow::{Context as _, Result, bail};
use protocol::limits::ROSTER_EPOCHS_HELD_MAX;
use protocol::model::{DeviceId, LinkHash};
use protocol::realm::{Commit, DeviceName, Link, Realm, RecoveryCode, Refused, Roster};
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::message::{EpochSecret, Heads};
use protocol::wire::pair::PairSecret;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file.
const REALM: &str = "realm";
/// First line: a later format gets another.
const FORMAT: &str = "syncd realm 1";

/// A realm as this device knows it.
#[derive(Clone)]
pub struct Kept {
    roster: Roster,
    realm: Realm,
    /// The latest epoch first.
    secrets: Vec<EpochSecret>,
}

impl Kept {
    /// A new realm of this device alone, and the code that stands over it.
    ///
    /// # Errors
    /// Without randomness.
    pub fn found(own: &Identity, name: DeviceName, time: UnixSeconds) -> Result<(Self, RecoveryCode)> {
        let mut random = Zeroizing::new([0; 20]);
        getrandom::fill(random.as_mut_slice()).context("no randomness for a recovery code")?;
        let code = RecoveryCode::from_random(*random);
        let secret = new_secret()?;
        let genesis = Link::genesis(own, name, code.public(), Commit::to(&secret), time);
        let mut kept = Self::of(Roster::new(genesis.as_bytes())?);
        kept.learn(&[EpochSecret { epoch: *genesis.hash().as_bytes(), secret }]);
        Ok((kept, code))
    }

    /// A realm that others told us of; its secrets are still to come.
    #[must_use]
    pub fn of(roster: Roster) -> Self {
        Self { realm: roster.resolve(), roster, secrets: Vec::new() }
    }

    /// Who is in it.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The list itself.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Takes in links, parents first. Whether there was a new one.
    ///
    /// # Errors
    /// When one is none that an honest device sends; those before it are taken in.
    pub fn insert<'a>(&mut self, links: impl IntoIterator<Item = &'a [u8]>) -> Result<bool, Refused> {
        let before = self.roster.hash();
        let taken = links.into_iter().try_for_each(|link| insert(&mut self.roster, link));
        let changed = self.roster.hash() != before;
        if changed {
            self.realm = self.roster.resolve();
            self.forget_old_secrets();
        }
        taken.map(|()| changed)
    }

    /// Takes over secrets that the authors of epochs have committed to. Whether there was a new one.
    pub fn learn(&mut self, secrets: &[EpochSecret]) -> bool {
        let before = self.secrets.len();
        for told in secrets {
            let is_right = |epoch: &protocol::realm::Epoch| {
                *epoch.link.as_bytes() == told.epoch && epoch.commit == Commit::to(&told.secret)
            };
            let is_known = self.secrets.iter().any(|known| known.epoch == told.epoch);
            if !is_known && self.realm.epochs.iter().any(is_right) {
                self.secrets.push(told.clone());
            }
        }
        let learnt = self.secrets.len() > before;
        self.forget_old_secrets();
        learnt
    }

    fn forget_old_secrets(&mut self) {
        let place = |secret: &EpochSecret| self.realm.epochs.iter().rposition(|e| *e.link.as_bytes() == secret.epoch);
        self.secrets.retain(|secret| place(secret).is_some());
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(place(secret)));
        self.secrets.truncate(ROSTER_EPOCHS_HELD_MAX);
    }

    /// The secrets that are held of other epochs than these, for a member that has only these.
    pub fn secrets_beyond(&self, epochs: &[[u8; 32]]) -> Vec<EpochSecret> {
        self.secrets.iter().filter(|secret| !epochs.contains(&secret.epoch)).cloned().collect()
    }

    /// The latest epoch whose secret both this device and one that holds `epochs` have.
    pub fn common_epoch(&self, epochs: &[[u8; 32]]) -> Option<LinkHash> {
        let common = self.secrets.iter().find(|secret| epochs.contains(&secret.epoch));
        common.map(|secret| LinkHash(secret.epoch))
    }

    /// The secret of the current epoch, unless it is still to come.
    pub fn latest_secret(&self) -> Option<&EpochSecret> {
        let current = self.realm.epochs.last()?;
        self.secrets.iter().find(|held| held.epoch == *current.link.as_bytes())
    }

    /// What this device shares with another in each epoch whose secret it holds, the latest first. None for a device
    /// whose keys cannot be used.
    pub fn pair_secrets(&self, own: &Identity, their: &PublicIdentity) -> Vec<(LinkHash, PairSecret)> {
        let derive =
            |held: &EpochSecret| Some((LinkHash(held.epoch), PairSecret::between(own, their, &held.secret).ok()?));
        self.secrets.iter().filter_map(derive).collect()
    }

    /// What `peer` is told of it.
    #[must_use]
    pub fn heads(&self, own: &DeviceId, peer: &DeviceId) -> Heads {
        let mut heads: Vec<[u8; 32]> = self.roster.heads().map(|hash| *hash.as_bytes()).collect();
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads.truncate(protocol::limits::LINK_PARENTS_MAX);
        Heads {
            realm: Some(*self.realm.id.as_bytes()),
            others: u16::try_from(self.others(own, peer)).unwrap_or(u16::MAX),
            heads,
            epochs: self.secrets.iter().map(|secret| secret.epoch).collect(),
        }
    }

    /// How many devices are in it besides these two.
    #[must_use]
    pub fn others(&self, own: &DeviceId, peer: &DeviceId) -> usize {
        self.realm.members.keys().filter(|member| *member != own && *member != peer).count()
    }

    /// Whether it takes the place of `ours`, or of none, when `peer` takes this device in: a realm that no third device is in
    /// gives way to one that has some, and of two without the one with the greater id does.
    #[must_use]
    pub fn replaces(&self, ours: Option<&Self>, own: &DeviceId, peer: &DeviceId) -> bool {
        let has_both = self.realm.members.contains_key(own) && self.realm.members.contains_key(peer);
        let gives_way =
            |ours: &Self| ours.others(own, peer) == 0 && (self.others(own, peer) > 0 || self.realm.id < ours.realm.id);
        has_both && ours.is_none_or(gives_way)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("realm", &self.realm.id).finish_non_exhaustive()
    }
}

/// A roster of links, the first of which founds the realm.
///
/// # Errors
/// When they are none that an honest device sends.
pub fn roster_of<'a>(mut links: impl Iterator<Item = &'a [u8]>) -> Result<Roster, Refused> {
    let mut roster = Roster::new(links.next().ok_or(Refused::Malformed)?)?;
    links.try_for_each(|link| insert(&mut roster, link))?;
    Ok(roster)
}

/// Takes in one link, or leaves out one that is not taken for no fault of whoever sent it.
///
/// # Errors
/// When no honest device sends that.
pub fn insert(roster: &mut Roster, link: &[u8]) -> Result<(), Refused> {
    match roster.insert(link) {
        Ok(_) | Err(Refused::MissingParents(_) | Refused::UnknownSigner | Refused::SignerFull | Refused::Full) => {
            Ok(())
        }
        Err(refused) => Err(refused),
    }
}

/// 32 random bytes, for a new epoch.
///
/// # Errors
/// Without randomness.
pub fn new_secret() -> Result<Secret32> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).context("no randomness for a secret")?;
    Ok(Secret32::new(*random))
}

/// The file.
#[derive(Debug)]
pub struct Membership {
    path: PathBuf,
    kept: Option<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    links: Vec<String>,
    secrets: Vec<StoredSecret>,
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    epoch: String,
    secret: Zeroizing<String>,
}

impl Membership {
    /// Reads it; no realm on the first start.
    ///
    /// # Errors
    /// When the file is open to others or damaged.
    pub fn open(keys: &Path) -> Result<Self> {
        let path = keys.join(REALM);
        let kept = match read_private(&path)? {
            None => None,
            Some(text) => parse(&text).with_context(|| format!("{} is damaged", path.display()))?,
        };
        Ok(Self { path, kept })
    }

    /// The realm, if there is one.
    #[must_use]
    pub const fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Saves another state of it, or another realm, or none.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn keep(&mut self, kept: Option<Kept>) -> Result<()> {
        let json = match &kept {
            None => Zeroizing::new(String::new()),
            Some(kept) => {
                Zeroizing::new(serde_json::to_string(&Stored::of(kept)).context("it cannot be written down")?)
            }
        };
        write_private(&self.path, Zeroizing::new(format!("{FORMAT}\n{}\n", *json)).as_bytes())?;
        self.kept = kept;
        Ok(())
    }
}

impl Stored {
    fn of(kept: &Kept) -> Self {
        let secret = |held: &EpochSecret| StoredSecret {
            epoch: hex(&held.epoch),
            secret: Zeroizing::new(hex(held.secret.expose())),
        };
        Self {
            links: kept.roster.links().map(|link| hex(link.as_bytes())).collect(),
            secrets: kept.secrets.iter().map(secret).collect(),
        }
    }
}

fn parse(text: &str) -> Result<Option<Kept>> {
    let Some((FORMAT, json)) = text.split_once('\n') else {
        bail!("unknown format");
    };
    if json.trim().is_empty() {
        return Ok(None);
    }
    let stored: Stored = serde_json::from_str(json).context("not a realm")?;
    let links: Vec<Vec<u8>> = stored.links.iter().map(|link| bytes_of(link)).collect::<Result<_>>()?;
    let mut kept = Kept::of(roster_of(links.iter().map(Vec::as_slice)).context("the list of devices does not hold")?);
    let secret = |held: &StoredSecret| -> Result<EpochSecret> {
        Ok(EpochSecret { epoch: unhex(&held.epoch)?, secret: Secret32::new(unhex(&held.secret)?) })
    };
    let secrets: Vec<EpochSecret> = stored.secrets.iter().map(secret).collect::<Result<_>>()?;
    kept.learn(&secrets);
    Ok(Some(kept))
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16).context("not hexadecimal")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::realm::{Author, Newcomer, Role};

    fn identity(seed: u8) -> Identity {
        Identity::from_seed(&Secret32::new([seed; 32]))
    }

    fn name(text: &str) -> DeviceName {
        DeviceName::new(text).expect("a name")
    }

    fn founded() -> Kept {
        Kept::found(&identity(1), name("a"), UnixSeconds(1)).expect("randomness").0
    }

    /// Epochs whose secrets are held.
    fn epochs(kept: &Kept) -> Vec<[u8; 32]> {
        kept.heads(&identity(1).id(), &identity(2).id()).epochs
    }

    /// As another device has it once the first has taken that one in.
    fn joined(first: &mut Kept) -> Kept {
        let newcomer = Newcomer { identity: identity(2).public(), role: Role::Admin, name: name("b") };
        let link = first.roster().add(Author::Device(&identity(1)), newcomer, UnixSeconds(2)).expect("an admin adds");
        assert!(first.insert([link.as_bytes()]).expect("a link of ours"));
        let links: Vec<Vec<u8>> = first.roster().links().map(|link| link.as_bytes().to_vec()).collect();
        Kept::of(roster_of(links.iter().map(Vec::as_slice)).expect("whole"))
    }

    #[test]
    fn a_realm_survives_a_restart() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut membership = Membership::open(dir.path()).expect("none yet");
        assert!(membership.kept().is_none());
        let kept = founded();
        membership.keep(Some(kept.clone())).expect("saved");
        let again = Membership::open(dir.path()).expect("read again");
        let read = again.kept().expect("a realm");
        assert_eq!((read.roster().hash(), epochs(read)), (kept.roster().hash(), epochs(&kept)));
        let (own, other) = (identity(1), identity(2).public());
        assert!(read.pair_secrets(&own, &other) == kept.pair_secrets(&own, &other));
        membership.keep(None).expect("saved");
        assert!(Membership::open(dir.path()).expect("read again").kept().is_none());
    }

    #[test]
    fn both_ends_derive_the_same_from_a_secret_that_one_passed_on() {
        let mut first = founded();
        let mut second = joined(&mut first);
        let (ours, theirs) = (identity(1), identity(2));
        assert!(second.pair_secrets(&theirs, &ours.public()).is_empty(), "the secret is still to come");
        assert!(second.learn(&first.secrets_beyond(&epochs(&second))));
        let secrets = first.pair_secrets(&ours, &theirs.public());
        assert_eq!(secrets.len(), 1);
        assert!(secrets == second.pair_secrets(&theirs, &ours.public()));
        assert_eq!(first.common_epoch(&epochs(&second)), Some(secrets[0].0));
        assert!(first.secrets_beyond(&epochs(&second)).is_empty());
    }

    #[test]
    fn a_secret_that_nobody_committed_to_is_not_taken() {
        let mut first = founded();
        let mut second = joined(&mut first);
        let epoch = epochs(&first)[0];
        assert!(!second.learn(&[EpochSecret { epoch, secret: Secret32::new([5; 32]) }]));
        assert!(!second.learn(&[EpochSecret { epoch: [6; 32], secret: Secret32::new([5; 32]) }]));
        assert!(epochs(&second).is_empty());
    }

    #[test]
    fn of_two_realms_both_ends_choose_the_same() {
        let [one, two, third] = [1, 2, 3].map(|seed| identity(seed).id());
        let ours =
            |seed: u8| Kept::found(&identity(seed), name("x"), UnixSeconds(u64::from(seed))).expect("randomness").0;
        let with = |kept: &Kept, founder: u8, added: &[u8]| {
            let mut kept = kept.clone();
            for seed in added {
                let newcomer = Newcomer { identity: identity(*seed).public(), role: Role::Admin, name: name("y") };
                let link = kept.roster().add(Author::Device(&identity(founder)), newcomer, UnixSeconds(9));
                kept.insert([link.expect("an admin adds").as_bytes()]).expect("a link of ours");
            }
            kept
        };
        let (a, b) = (ours(1), ours(2));
        // Each has taken the other in: one of the two gives way.
        let (a_took, b_took) = (with(&a, 1, &[2]), with(&b, 2, &[1]));
        let b_drops = a_took.replaces(Some(&b_took), &two, &one);
        assert_ne!(b_drops, b_took.replaces(Some(&a_took), &one, &two));
        // A third device decides.
        let b_took_two = with(&b, 2, &[1, 3]);
        assert!(b_took_two.replaces(Some(&a_took), &one, &two));
        assert!(!a_took.replaces(Some(&b_took_two), &two, &one));
        let a_took_two = with(&a, 1, &[2, 3]);
        assert!(
            !b_took_two.replaces(Some(&a_took_two), &one, &two) && !a_took_two.replaces(Some(&b_took_two), &two, &one)
        );
        assert!(!a.replaces(None, &two, &one), "not in it");
        assert!(a_took.replaces(None, &two, &one));
        assert_eq!(a_took_two.others(&one, &third), 1);
    }

    #[test]
    fn a_removal_renews_the_secret() {
        let mut first = founded();
        let mut second = joined(&mut first);
        second.learn(&first.secrets_beyond(&[]));
        let (before, secret) = (epochs(&second), new_secret().expect("randomness"));
        let (author, commit) = (identity(1), Commit::to(&secret));
        let removal = first.roster().remove(Author::Device(&author), identity(2).id(), commit, UnixSeconds(3));
        let removal = removal.expect("the elder may");
        first.insert([removal.as_bytes()]).expect("a link of ours");
        assert!(first.learn(&[EpochSecret { epoch: *removal.hash().as_bytes(), secret }]));
        assert!(!first.realm().members.contains_key(&identity(2).id()));
        assert_eq!(epochs(&first).len(), 2);
        assert_ne!(epochs(&first)[0], before[0]);
    }
}
