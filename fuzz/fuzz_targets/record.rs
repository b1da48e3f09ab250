#![no_main]
//! A page, document or path of a stranger on its way into a recording: never a panic, and never a secret
//! of its own in it.

use authtap::record::{page, scrub::Scrubber};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, bool)| {
    let (text, request) = input;
    let mut scrubber = Scrubber::new([1; 32], Default::default());
    let _ = scrubber.url(text);
    let _ = scrubber.cookie("c", text);
    let _ = scrubber.credentials(text);
    let secret = "q7Zk2mXw9Rt4";
    let made = page(&format!("{text}<p>{secret}</p><input name=pw value={secret}>"), request, &mut scrubber);
    assert!(!made.contains(secret));
});
