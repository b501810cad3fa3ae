//! Passes TCP on between two daemons and keeps every byte of each connection, there and back. Two devices that both
//! listen at new addresses meet only through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tests::harness::{Device, until};

/// What was said in one connection.
#[derive(Clone, Default)]
pub struct Call {
    /// By whoever dialled.
    pub there: Vec<u8>,
    /// By whoever answered.
    pub back: Vec<u8>,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// Listens until the test's process ends.
pub struct Recorder {
    calls: Calls,
    target: Arc<Mutex<String>>,
}

impl Recorder {
    /// Takes the address at which `device` was known until now, and passes on to it.
    pub fn in_place_of(device: &mut Device) -> Self {
        let known = device.address();
        device.stop();
        let listener = TcpListener::bind(known).expect("the device has left its address");
        let (calls, target) = (Calls::default(), Arc::<Mutex<String>>::default());
        let recorder = Self { calls: Arc::clone(&calls), target: Arc::clone(&target) };
        std::thread::spawn(move || {
            for dialler in listener.incoming().map_while(Result::ok) {
                let to = target.lock().expect("no holder panics").clone();
                let Ok(listener) = TcpStream::connect(to) else { continue };
                let at = {
                    let mut calls = calls.lock().expect("no holder panics");
                    calls.push(Call::default());
                    calls.len() - 1
                };
                pass_both_ways(dialler, listener, &calls, at);
            }
        });
        recorder
    }

    /// Starts both devices at addresses that the other does not know, and waits until they have met here.
    pub fn lets_meet(&self, answers: &mut Device, dials: &mut Device) {
        answers.listen_at("127.0.0.1:0");
        dials.listen_at("127.0.0.1:0");
        answers.start();
        *self.target.lock().expect("no holder panics") = answers.address();
        let before = self.calls().len();
        dials.start();
        until("the devices meet through the recorder", || {
            let both = dials.is_connected_to(answers) && answers.is_connected_to(dials);
            (both && self.calls().len() > before).then_some(())
        });
    }

    /// Every connection so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no holder panics").clone()
    }
}

fn pass_both_ways(dialler: TcpStream, listener: TcpStream, calls: &Calls, at: usize) {
    let again = [&dialler, &listener].map(|end| end.try_clone().expect("a handle"));
    let [dialler_again, listener_again] = again;
    let (there, back) = (Arc::clone(calls), Arc::clone(calls));
    std::thread::spawn(move || pass(dialler, listener, |bytes| keep(&there, at, |call| &mut call.there, bytes)));
    std::thread::spawn(move || pass(listener_again, dialler_again, |b| keep(&back, at, |call| &mut call.back, b)));
}

fn keep(calls: &Calls, at: usize, side: fn(&mut Call) -> &mut Vec<u8>, bytes: &[u8]) {
    side(&mut calls.lock().expect("no holder panics")[at]).extend_from_slice(bytes);
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        // Kept before it is passed on: what an end has, is here.
        keep(&bytes[..len]);
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
