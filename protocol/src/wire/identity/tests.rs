//! Answers that others have published, through our own words for signing and agreeing. Keys here come as they are, not from a
//! seed.

use super::*;

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
}

fn of_keys(ed: [u8; 32], x: [u8; 32]) -> Identity {
    let (ed, x) = (SigningKey::from_bytes(&ed), StaticSecret::from(x));
    let public = PublicIdentity { ed: ed.verifying_key().to_bytes(), x: PublicKey::from(&x).to_bytes() };
    Identity { ed, x, public }
}

/// RFC 8032, section 7.1, test 1.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let secret = unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let identity = of_keys(secret, [1; 32]);
    let public = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let signature = unhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2465\
         5141438e7a100b",
    );
    assert_eq!((identity.public().ed, identity.sign(b"")), (public, signature));
}

/// RFC 7748, section 6.1.
#[test]
fn two_devices_agree_as_in_rfc_7748() {
    let alice = of_keys([1; 32], unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob = of_keys([2; 32], unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    assert_eq!(alice.public().x, unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
    assert_eq!(bob.public().x, unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    for (own, other) in [(&alice, &bob), (&bob, &alice)] {
        assert_eq!(own.agree(&other.public().x).map(|agreed| *agreed.expose()), Some(shared));
    }
}
