//! The CPU time that each process used during a measurement.

use crate::role::Role;
use crate::sheet::Sheet;
use crate::usage;

/// The name of RabbitMQ's process on Linux.
pub(crate) const RABBITMQ: &str = "beam.smp";
/// The servers and their process names on Linux.
const SERVERS: [(&str, &str); 2] = [("RabbitMQ", RABBITMQ), ("Redis", "redis-server")];

/// The CPU seconds used up to one moment.
#[derive(Debug)]
pub(crate) struct Spending {
    /// The servers, and those of our processes that are measured.
    known: Vec<(&'static str, f64)>,
    machine_s: f64,
}

impl Spending {
    /// The CPU seconds of the servers, of `roles` and of the whole machine so far.
    ///
    /// # Errors
    /// When a role has ended.
    pub(crate) fn now(roles: &[Role]) -> anyhow::Result<Self> {
        let mut known = Vec::new();
        for role in roles {
            known.push((role.name, role.cpu_s()?));
        }
        for (name, program) in SERVERS {
            known.push((name, usage::program_cpu_s(program)?));
        }
        Ok(Self { known, machine_s: usage::machine_cpu_s()? })
    }

    /// Notes the CPU seconds used since then for 1,000 of `texts`. The processes named `others` used `others_s` of it
    /// and have ended. The figures' names begin with `whose`.
    ///
    /// # Errors
    /// When a role has ended.
    pub(crate) fn note(
        &self,
        sheet: &mut Sheet,
        whose: &str,
        roles: &[Role],
        (others, others_s): (&'static str, f64),
        texts: u64,
    ) -> anyhow::Result<()> {
        let now = Self::now(roles)?;
        let thousands = f64::from(u32::try_from(texts)?) / 1000.0;
        let mut rest_s = now.machine_s - self.machine_s - others_s;
        let mut note = |name: &str, used_s: f64| {
            sheet.note(format!("{whose}, CPU for 1,000 texts: {name}"), "s", used_s / thousands);
        };
        note(others, others_s);
        for ((name, before_s), (_, after_s)) in self.known.iter().zip(&now.known) {
            note(name, after_s - before_s);
            rest_s -= after_s - before_s;
        }
        note("all else", rest_s);
        Ok(())
    }
}
