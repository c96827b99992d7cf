//! Whether a text that Twilio lists has the words of one of ours, although Twilio changed them: trial accounts get a
//! sentence before them, smart encoding replaces characters, and an account may redact what was sent.

/// What a trial account puts before its texts, folded.
const TRIAL_PREFIX: &str = "Sent from your Twilio trial account -";
/// Redacted words are shown as these.
const MASK: &str = "***";

/// How the words of two texts compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The same, but for changes that Twilio is known to make.
    Same,
    /// Hidden, or changed in some other way: they may be the same.
    Similar,
    /// Not the same.
    Different,
}

/// Compares the words of a text of ours with what the list shows.
pub(super) fn compare(ours: &str, listed: &str) -> Likeness {
    let (ours, listed) = (folded(ours), folded(listed));
    let bare = listed.strip_prefix(TRIAL_PREFIX).map_or(listed.as_str(), str::trim_start);
    if ours == listed || ours == bare {
        return Likeness::Same;
    }
    let is_changed = !ours.is_empty() && bare.contains(&ours) || is_spelled_alike(&ours, bare);
    if is_changed || is_redacted(&ours, bare) { Likeness::Similar } else { Likeness::Different }
}

/// Whether all letters and digits are the same.
fn is_spelled_alike(ours: &str, listed: &str) -> bool {
    let spelling =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let ours = spelling(ours);
    !ours.is_empty() && ours == spelling(listed)
}

/// Whether `listed` shows nothing of a text, or all of it but what is masked.
fn is_redacted(ours: &str, listed: &str) -> bool {
    if listed.is_empty() || listed.eq_ignore_ascii_case("redacted") || listed.eq_ignore_ascii_case("[redacted]") {
        return true;
    }
    let mut rest = ours;
    let mut shown = listed.split(MASK).map(|shown| shown.trim_matches('*')).filter(|shown| !shown.is_empty());
    listed.contains(MASK)
        && shown.all(|shown| match rest.split_once(shown) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
}

/// The text as smart encoding might write it, with single blanks between words. The table is applied to both texts, so
/// its direction does not matter: <https://www.twilio.com/docs/messaging/services/smart-encoding-char-list>.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        match alike(character) {
            Some(alike) => folded.push_str(alike),
            // ASCII in the width of Chinese characters.
            None if ('\u{ff01}'..='\u{ff5e}').contains(&character) => {
                folded.extend(char::from_u32(u32::from(character) - 0xfee0));
            }
            None if character.is_whitespace() || ('\u{80}'..='\u{9f}').contains(&character) => folded.push(' '),
            None if character.is_control() => {}
            None => folded.push(character),
        }
    }
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What smart encoding writes for characters, where that is not a matter of width.
#[rustfmt::skip]
const ALIKE: &[(&str, &str)] = &[
    ("«»“”„‟ʺˮ❝❞〝〞＂", "\""),
    ("‘’‛ʻʼʽʹˈˊˋ´`❛❜‗＇｀\u{313}\u{314}\u{fe10}\u{fe11}′", "'"),
    ("÷⧸⁄∕\u{337}\u{338}", "/"),
    ("⧹⧵﹨\u{20e5}", "\\"),
    ("¼", "1/4"),
    ("½", "1/2"),
    ("¾", "3/4"),
    ("\u{332}", "_"),
    ("∣⎸⎹⏐⎜⎟\u{20d2}\u{20d3}", "|"),
    ("–—―‐‑‒⁃•⎼⎽﹣−", "-"),
    ("﹫", "@"),
    ("﹩", "$"),
    ("ǃ﹗\u{fe15}", "!"),
    ("‼", "!!"),
    ("﹟", "#"),
    ("﹪", "%"),
    ("﹠", "&"),
    ("‚﹐﹑､、\u{326}", ","),
    ("❨❪﹙⟮⦅", "("),
    ("❩❫﹚⟯⦆", ")"),
    ("⁎∗⊛✢✣✤✥✱✲✳✺✻✼✽❃❉❊❋⧆﹡", "*"),
    ("˖﹢", "+"),
    ("。﹒｡", "."),
    ("…", "..."),
    ("ː˸⦂꞉\u{fe13}", ":"),
    ("⁏﹔\u{fe14}", ";"),
    ("﹤›", "<"),
    ("﹥‹", ">"),
    ("꞊﹦\u{347}", "="),
    ("﹖\u{fe16}", "?"),
    ("ˆ\u{302}\u{1dcd}", "^"),
    ("❴﹛", "{"),
    ("❵﹜", "}"),
    ("˜˷∼\u{303}\u{330}\u{334}", "~"),
    ("\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{fe0e}\u{fe0f}", ""),
];
/// Small capitals, and the letters that smart encoding writes for them.
const SMALL_CAPITALS: (&str, &str) = ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "ABCDEFGHIJKLMNOPRSTUVWYZ");

fn alike(character: char) -> Option<&'static str> {
    if character.is_ascii() && character != '`' {
        return None;
    }
    let (small, capital) = SMALL_CAPITALS;
    let letter = small.chars().position(|known| known == character).and_then(|at| capital.get(at..=at));
    letter.or_else(|| ALIKE.iter().find(|(from, _)| from.contains(character)).map(|(_, to)| *to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b4_what_twilio_is_known_to_change_is_undone() {
        let same = [
            ("hi", "hi"),
            ("hi", " hi \n"),
            ("hi", "Sent from your Twilio trial account - hi"),
            ("", "Sent from your Twilio trial account - "),
            ("Sent from your Twilio trial account - hi", "Sent from your Twilio trial account - hi"),
            ("We’re open… “always” – 9\u{a0}am", "We're open... \"always\" - 9  am"),
            ("½ off • today\u{200b}", "1/2 off - today"),
            ("ＡＢＣ！", "ABC!"),
            ("a\r\nb", "a\nb"),
            ("👍🏽 ok", "👍🏽 ok"),
            ("`x`", "'x'"),
            ("‹a›", ">a<"),
        ];
        for (ours, listed) in same {
            assert_eq!(compare(ours, listed), Likeness::Same, "{ours:?} {listed:?}");
        }
    }

    #[test]
    fn b4_what_is_hidden_or_otherwise_changed_is_no_proof_either_way() {
        let similar = [
            ("hi", ""),
            ("hi", "***"),
            ("hi", "*********"),
            ("hi", "[REDACTED]"),
            ("Your code is 1234, bye", "Your code is ****, bye"),
            ("hi", "hi Reply STOP to unsubscribe"),
            ("hi", "Acme: hi"),
            ("Grüße, Zoë!", "Grüße Zoë"),
            ("hi", "Sent from your Twilio trial account - ***"),
        ];
        for (ours, listed) in similar {
            assert_eq!(compare(ours, listed), Likeness::Similar, "{ours:?} {listed:?}");
        }
        let different = [
            ("hi", "ho"),
            ("Your code is 1234", "Your code is 5678"),
            ("👍", "👎"),
            ("Your code is 1", "My *** 1"),
            ("", "x"),
        ];
        for (ours, listed) in different {
            assert_eq!(compare(ours, listed), Likeness::Different, "{ours:?} {listed:?}");
        }
    }

    proptest! {
        #[test]
        fn b4_any_text_is_the_same_as_itself_also_behind_the_trial_prefix(text in ".{0,200}") {
            prop_assert_eq!(compare(&text, &text), Likeness::Same);
            let trial = format!("Sent from your Twilio trial account - {text}");
            prop_assert_eq!(compare(&text, &trial), Likeness::Same);
            prop_assert_eq!(folded(&folded(&text)), folded(&text));
        }
    }
}
