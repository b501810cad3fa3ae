//! The Noise engine: snow, with ChaCha20-Poly1305 from ring and everything else from snow's default resolver. Its
//! only randomness is the ephemeral key that the caller hands in, so a handshake is a function of its inputs.
//! The same cipher by itself seals what lies in a file.

use super::kdf::Secret32;
use super::knock::{Context, Knock};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

/// Bytes of an AEAD tag.
pub(super) const TAG_LEN: usize = 16;

struct Resolver {
    ephemeral: Secret32,
}

/// Hands out the ephemeral key once; a second draw is a bug in the pattern and fails the handshake.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&*bytes);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(Zeroizing::new(*self.ephemeral.expose())))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

/// Which end of a handshake, with the static keys its pattern needs.
pub(super) enum Role<'a> {
    /// Writes first. `own` is the static secret, `remote` the static key known in advance.
    Initiator { own: Option<&'a [u8; 32]>, remote: Option<&'a [u8; 32]> },
    /// Reads first.
    Responder { own: &'a [u8; 32] },
}

/// A handshake of the pattern `name` with pre-shared key 0 and a prologue that binds it to its knock.
pub(super) fn begin(
    name: &str,
    role: &Role<'_>,
    psk: &Secret32,
    prologue: &[u8],
    ephemeral: Secret32,
) -> Result<HandshakeState, snow::Error> {
    let params: NoiseParams = name.parse()?;
    let builder = Builder::with_resolver(params, Box::new(Resolver { ephemeral }));
    let builder = builder.prologue(prologue)?.psk(0, psk.expose())?;
    match role {
        Role::Initiator { own, remote } => {
            let builder = match own {
                Some(own) => builder.local_private_key(*own)?,
                None => builder,
            };
            match remote {
                Some(remote) => builder.remote_public_key(*remote)?.build_initiator(),
                None => builder.build_initiator(),
            }
        }
        Role::Responder { own } => builder.local_private_key(*own)?.build_responder(),
    }
}

/// "syncd/1\0" ‖ context ‖ knock\[24\] ‖ channel binding\[32\].
pub(super) fn prologue(context: Context, knock: &Knock, channel_binding: &[u8; 32]) -> Vec<u8> {
    [b"syncd/1\0".as_slice(), &[context.byte()], &knock.0, channel_binding].concat()
}

/// ChaCha20-Poly1305 under nonce 0: `key` seals one text only. The tag comes last.
pub(super) fn seal(key: &Secret32, head: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; plain.len() + TAG_LEN];
    let len = cipher(key).encrypt(0, head, plain, &mut sealed);
    assert_eq!(len, sealed.len(), "the cipher adds one tag");
    sealed
}

/// What [`seal`] was given; `None` for another key, head or text.
pub(super) fn open(key: &Secret32, head: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let len = sealed.len().checked_sub(TAG_LEN)?;
    // The cipher works in place, so there is room for the tag too.
    let mut plain = Zeroizing::new(vec![0; sealed.len()]);
    let found = cipher(key).decrypt(0, head, sealed, &mut plain).ok()?;
    assert_eq!(found, len, "the cipher takes off one tag");
    plain.truncate(len);
    Some(plain)
}

fn cipher(key: &Secret32) -> Box<dyn Cipher> {
    let mut cipher = RingResolver.resolve_cipher(&CipherChoice::ChaChaPoly).expect("ring has ChaCha20-Poly1305");
    cipher.set(key.expose());
    cipher
}
