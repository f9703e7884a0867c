//! Options that are numbers, across all commands.

use std::{any::TypeId, time::Duration};

use clap::{Arg, Command};

/// The command with a sign accepted before the value of every numeric option: `--steps -1` is answered with what `--steps` can
/// be, and not taken for an option `-1`.
pub fn with_signs(command: Command) -> Command {
    let signed = |arg: Arg| if is_number(&arg) { arg.allow_hyphen_values(true) } else { arg };
    command.mut_args(signed).mut_subcommands(with_signs)
}

/// True if the value of an option is a number or a time.
fn is_number(arg: &Arg) -> bool {
    let of = arg.get_value_parser().type_id();
    [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<i32>(),
        TypeId::of::<i64>(),
        TypeId::of::<f32>(),
        TypeId::of::<f64>(),
        TypeId::of::<Duration>(),
    ]
    .into_iter()
    .any(|number| of == number)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    /// Options that accept 0, with the reason. No other of the values below is accepted by any option.
    const ZERO: [(&str, &str); 11] = [
        ("seed", "any number is a seed"),
        ("random", "any number is a seed"),
        ("k-coef", "kept nodes can be free"),
        ("price-rise", "the price can be whole from the first step"),
        ("temperature", "takes the most likely token"),
        ("top-k", "means all tokens"),
        ("tokens", "adds nothing to the prompt"),
        ("margin", "ranges can be taken as they are"),
        ("validation-fraction", "data can be for training alone"),
        ("port", "takes any port that is free"),
        ("budget", "no time is a time, and the verdict says what it leaves out"),
    ];

    /// Every command without subcommands, with the words that lead to it.
    fn leaves(command: &Command, before: &[String]) -> Vec<(Vec<String>, Command)> {
        let path = [before, &[command.get_name().to_owned()]].concat();
        match command.get_subcommands().next() {
            None => vec![(path, command.clone())],
            Some(_) => command.get_subcommands().flat_map(|command| leaves(command, &path)).collect(),
        }
    }

    #[test]
    fn every_number_on_the_command_line_is_in_range() {
        let whole = with_signs(crate::Cli::command());
        let (mut options, mut unused) = (0, ZERO.map(|(name, _)| name).to_vec());
        for (path, command) in leaves(&whole, &[]) {
            for arg in command.get_arguments().filter(|arg| is_number(arg)) {
                let name = arg.get_long().expect("numbers are options and have names");
                options += 1;
                let error = |value: &str| {
                    let words = path.iter().cloned().chain([format!("--{name}"), value.to_owned()]);
                    whole.clone().try_get_matches_from(words).err()
                };
                for value in ["nan", "NaN", "inf", "-inf", "infinity", "-1", "-0.5", "1e400", "", " ", "1,5", "0x10"] {
                    let error = error(value).unwrap_or_else(|| panic!("{path:?} accepts --{name} {value}"));
                    let kind = error.kind();
                    assert!(kind == ErrorKind::ValueValidation || kind == ErrorKind::InvalidValue, "{error}");
                    let text = error.to_string();
                    assert!(text.contains(&format!("--{name}")) && !text.contains("tip: to pass"), "{text}");
                }
                // Without its required arguments the command fails all the same, but for that.
                let refused = error("0")
                    .is_some_and(|e| matches!(e.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue));
                let listed = ZERO.iter().any(|(listed, _)| *listed == name);
                assert_eq!(refused, !listed, "{path:?} --{name} 0");
                unused.retain(|&other| other != name);
                // What `--help` shows as the default is accepted.
                for default in arg.get_default_values() {
                    let error = error(default.to_str().unwrap());
                    assert!(
                        error.is_none_or(|e| e.kind() != ErrorKind::ValueValidation),
                        "{path:?} --{name} {default:?}"
                    );
                }
            }
        }
        assert!(options > 25, "only {options} numeric options were found");
        assert_eq!(unused, Vec::<&str>::new(), "no option of this name");
    }
}
