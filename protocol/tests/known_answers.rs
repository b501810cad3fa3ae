//! Known answers: values that every implementation of SPEC.md must reproduce, found with an independent one.

use protocol::wire::beacon;
use protocol::wire::handshake::{CheckNumber, commitment};
use protocol::wire::identity::Identity;
use protocol::wire::invite::InviteCode;
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::knock::{Candidate, Context, Knock};
use protocol::wire::pair::{Direction, PairSecret};

fn run(from: u8) -> [u8; 32] {
    std::array::from_fn(|i| from + u8::try_from(i).expect("an index below 32"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn device_a() -> Identity {
    Identity::from_seed(&Secret32::new(run(0x00)))
}

fn device_b() -> Identity {
    Identity::from_seed(&Secret32::new(run(0x20)))
}

fn pair() -> PairSecret {
    PairSecret::between(&device_a(), &device_b().public(), &Secret32::new(run(0x40))).expect("two honest devices")
}

const SALT: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn identity() {
    let a = device_a();
    assert_eq!(hex(&a.public().ed), "2fd71ea7920326d7b1b100ce7cbddb3beb4156a6a826726e7fdfdc960bf330be");
    assert_eq!(hex(&a.public().x), "a46a09a20aac196f8de6be8f51ef51846bfe5666d46016be83928b0fca3e0648");
    assert_eq!(a.id().to_hex(), "2d17ef1041fc9810806029654c777e198bf8b408430afa7f6dddb8f06843841c");
    assert_eq!(a.id().to_string(), "sd195t77yzpljvppqrq99j5cam7rx9l3dqggv905lmdmku0q6zrsswqaqquns");
    assert_eq!(device_b().id().to_hex(), "34974c105722c6fc85e689feac1f423aeeb96698024bfcffe23b5bcf7e3ba3bd");
    assert_eq!(Direction::of(&a.id(), &device_b().id()), Direction::Low);
}

#[test]
fn pair_secret() {
    let pair = pair();
    assert_eq!(hex(pair.secret().expose()), "e9616cf6a4f721b911ab501c073404092fc6c13c1719848482e4aaecfd931d02");
    let other = PairSecret::between(&device_b(), &device_a().public(), &Secret32::new(run(0x40)));
    assert!(other == Ok(pair.clone()), "both sides derive the same");
    let knock_key = pair.knock_key(Direction::Low);
    assert_eq!(hex(knock_key.expose()), "923d20594e7ba239da2b4c3f94b85fbe981d3efd022204e92a301108fa63bd09");
    let lan_key = pair.lan_key(Direction::Low);
    assert_eq!(hex(lan_key.expose()), "8858ad9dba9d98b517b294561d0f2840ef6562dad0527f3b9c1de76ed95969fc");
    assert_eq!(hex(pair.psk().expose()), "82997c8020e30aa131a3f16507d914da115b1cf2cf0ecf0b4ebd02cfc8c03c52");
}

#[test]
fn knock() {
    let key = pair().knock_key(Direction::Low);
    let now = UnixSeconds(2_936_000 * 600 + 17);
    let knock = Knock::make(&key, Context::Session, SALT, now);
    assert_eq!(hex(&knock.0), "0001020304050607b23f82b9ac292b0af0fd6cd86d24cc2b");
    let found = knock.find(&[Candidate { key: &key, context: Context::Session }], now, 1);
    assert_eq!(found.map(|found| (found.index, found.skew_windows)), Some((0, 0)));
}

#[test]
fn relay_token() {
    let token = pair().relay_token(&[0x11; 32], 83_000);
    assert_eq!(hex(&token), "e326a085e55cc066ebe872df9ae4a7f71e367cc36cb31c3e0fd31bb0086cad57");
}

#[test]
fn lan_tag() {
    let source = std::net::IpAddr::from([192, 168, 9, 1]);
    let tag = beacon::tag(&pair().lan_key(Direction::Low), &SALT, 5_872_000, source, 28_730);
    assert_eq!(hex(&tag), "e78ffb9f44ee0ad8");
}

#[test]
fn check_number() {
    let b = device_b().id();
    assert_eq!(hex(&commitment(&[0x33; 32], &b)), "8a6bd17768ab28e56e3ced8a5b2545799d044aaf782db4bb7ae29a90f718b313");
    let number = CheckNumber::derive(&[0x22; 32], &[0x33; 32], &[0x44; 32], &b);
    assert_eq!(number, CheckNumber(52_765));
    assert_eq!(number.to_string(), "052 765");
}

#[test]
fn invite() {
    let code = InviteCode::from_random([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(code.to_string(), "000g-40r4-0m30-e209-m9kq");
    let secret = code.pair_secret();
    assert_eq!(hex(secret.secret().expose()), "939c0a4b2f7abd1bc6d0787a2fd903d8bdf8e8bf4f400d5de8b860c72deb8c5b");
}
