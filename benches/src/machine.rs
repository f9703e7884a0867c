//! The machine that a number was measured on.

use std::{fs, process::Command, thread};

/// The machine, as far as it can be asked; what it does not tell is "unknown".
#[derive(Clone, Debug)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Its vector instruction sets.
    pub flags: String,
    /// Caches as one core sees them.
    pub caches: String,
    /// Memory in GiB.
    pub memory_gib: Option<f64>,
    /// Operating system and architecture.
    pub system: String,
    /// Version of the compiler.
    pub compiler: String,
    /// The GPU that is measured, if one is.
    pub gpu: Option<String>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| -> Option<String> {
            let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let cpu = field("model name").map(|name| match (field("cpu family"), field("model")) {
            (Some(family), Some(model)) => format!("{name}, family {family} model {model}"),
            _ => name,
        });
        let flags = field("flags").or_else(|| field("Features"));
        Self {
            cpu: cpu.unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, |n| n.get()),
            flags: flags
                .map_or_else(unknown, |all| all.split(' ').filter(|f| is_vector(f)).collect::<Vec<_>>().join(" ")),
            caches: caches().unwrap_or_else(unknown),
            memory_gib: memory_gib(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            compiler: output("rustc", &["--version"]).unwrap_or_else(unknown),
            gpu: None,
        }
    }

    /// The same where a GPU of this name is measured.
    pub fn on(self, gpu: &str) -> Self {
        Self { gpu: Some(gpu.to_owned()), ..self }
    }

    /// The machine in a folder's name.
    pub fn device(&self) -> String {
        match &self.gpu {
            None => format!("cpu-{}core", self.cores),
            Some(gpu) => {
                let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
                gpu.chars().map(letters).collect()
            }
        }
    }

    /// Warning for a machine on which others are working.
    pub fn warning(&self) -> Option<String> {
        let average: f64 = load().split(' ').next()?.parse().ok()?;
        let busy = average > 0.25 * self.cores as f64;
        busy.then(|| {
            format!(
                "others are working on this machine (load average {average} on {} cores): times are longer than on a \
                 quiet one, above all of programs whose threads wait for each other often, as PyTorch's do",
                self.cores
            )
        })
    }

    /// Names and values, for headings.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let memory = self.memory_gib.map_or("unknown".into(), |gib| format!("{gib:.0} GiB"));
        let gpu = self.gpu.clone().map(|gpu| ("GPU", gpu));
        let cpu = [
            ("CPU", format!("{}; {} cores", self.cpu, self.cores)),
            ("flags", self.flags.clone()),
            ("caches", self.caches.clone()),
            ("memory", memory),
            ("system", self.system.clone()),
            ("compiler", self.compiler.clone()),
        ];
        gpu.into_iter().chain(cpu).collect()
    }
}

/// Number of processes that wanted to run, on average over the last 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    match text.split(' ').take(3).collect::<Vec<_>>() {
        averages if averages.len() == 3 => averages.join(" "),
        _ => "unknown".into(),
    }
}

/// Output of a program that runs and succeeds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn is_vector(flag: &str) -> bool {
    ["avx", "amx", "fma", "sse4", "asimd", "sve", "bf16"].iter().any(|name| flag.starts_with(name))
}

/// `L1d 48K, L2 1024K, L3 32768K`
fn caches() -> Option<String> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let read = |index: usize, file: &str| {
        fs::read_to_string(format!("{folder}/index{index}/{file}")).ok().map(|text| text.trim().to_owned())
    };
    let caches: Vec<String> = (0..8)
        .filter_map(|index| {
            let (level, kind, size) = (read(index, "level")?, read(index, "type")?, read(index, "size")?);
            let letter = match kind.as_str() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            Some(format!("L{level}{letter} {size}"))
        })
        .collect();
    (!caches.is_empty()).then(|| caches.join(", "))
}

fn memory_gib() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_description() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.device().starts_with("cpu-"));
        assert!(machine.lines().iter().all(|(_, value)| !value.contains('\n')), "{machine:?}");
    }
}
