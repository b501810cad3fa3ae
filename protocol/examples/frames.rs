//! How fast frames are sealed and opened on one core: `cargo run --release -p protocol --example frames`.

use protocol::limits::{DATA_PAYLOAD_LEN_MAX, PROTOCOL_VERSIONS};
use protocol::wire::frame::{Opener, Sealer};
use protocol::wire::handshake::{HelloHead, Initiator, Params, Responder};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::knock::{Context, Knock};

fn channel() -> (Sealer, Opener) {
    let (a, b) = (Identity::from_seed(&Secret32::new([1; 32])), Identity::from_seed(&Secret32::new([2; 32])));
    let psk = Secret32::new([3; 32]);
    let knock = Knock::make(&psk, Context::Session, [4; 8], UnixSeconds(1));
    let params = |own| Params {
        context: Context::Session,
        knock: &knock,
        psk: &psk,
        own,
        expected: None,
        hello: HelloHead::default(),
        channel_binding: [0; 32],
        versions: PROTOCOL_VERSIONS,
    };
    let (initiator, first) = Initiator::start(&params(&a), &[5; 128]).expect("honest");
    let (responder, second) = Responder::start(&params(&b), &first, &[6; 96]).expect("honest");
    let (third, at_a) = initiator.read_message_2(&second).expect("honest");
    (at_a.transport.split().0, responder.read_message_3(&third).expect("honest").transport.split().1)
}

#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement needs a clock")]
fn seconds(work: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    const FRAMES: usize = 16;
    const ROUNDS: usize = 1000;
    let bytes = (FRAMES * ROUNDS * DATA_PAYLOAD_LEN_MAX) as f64 / 1e6;
    let (mut sealer, mut opener) = channel();
    let payload = vec![7; DATA_PAYLOAD_LEN_MAX];
    let (mut wire, mut sealing, mut opening) = (Vec::new(), 0.0, 0.0);
    for _ in 0..ROUNDS {
        sealing += seconds(|| {
            wire.clear();
            for _ in 0..FRAMES {
                sealer.seal_data(0x21, 0, 1, &payload, &mut wire).expect("full frames");
            }
        });
        opening += seconds(|| {
            let mut rest = &wire[..];
            while !rest.is_empty() {
                rest = &rest[opener.push(rest)..];
                while let Some(frame) = opener.next().expect("untouched") {
                    assert_eq!(frame.payload.len(), DATA_PAYLOAD_LEN_MAX);
                }
            }
        });
    }
    println!("seal {:.0} MB/s, open {:.0} MB/s", bytes / sealing, bytes / opening);
}
