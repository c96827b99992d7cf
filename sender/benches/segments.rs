//! What counting the segments of a part costs. The counting is the sender's own, so its file is compiled in here too:
//! no other crate needs it, and a benchmark is no reason to make it public.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;

#[allow(unused_imports, reason = "its tests are run elsewhere")]
#[path = "../src/segments.rs"]
mod segments;

use segments::segments;

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    let mut group = criterion.benchmark_group("segments");
    let english =
        "Your order 4711 is on its way. It will be with you on Monday between 9:00 and 12:00. Reply STOP to end.";
    let german =
        "Ihre Bestellung für 48,90 € ist unterwegs. Sie müssen nichts tun, außer am Montag zu Hause zu sein. Grüße!";
    let emoji = "Your order is on its way 🚚📦 and will be with you on Monday 👍🏽. Thank you for shopping with us 🎉🎉";
    let cases = [
        ("GSM-7, English, one segment", english.to_owned(), 1),
        ("GSM-7, English, 1,600 characters", english.repeat(16), 11),
        ("GSM-7, German, 1,600 characters", german.repeat(15), 11),
        ("UCS-2, emoji, 1,600 characters", emoji.repeat(16), 25),
    ];
    for (name, text, expected) in cases {
        assert_eq!(segments(&text), expected, "{name}");
        group.bench_function(name, |b| b.iter(|| segments(black_box(&text))));
    }
    group.finish();
    criterion.final_summary();
}
