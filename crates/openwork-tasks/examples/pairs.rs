//! Prints pairs of a task: `cargo run --example pairs -- TASK COUNT`.

use openwork_tasks::{Split, Task, all, find};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "for_while".to_owned());
    let count = arguments.next().map_or(3, |n| n.parse().expect("COUNT is a number"));
    let Some(task) = find(&name) else {
        eprintln!("there is no task {name}; there are {}", all().iter().map(Task::name).collect::<Vec<_>>().join(", "));
        std::process::exit(2);
    };
    println!("{}: {}\n", task.name(), task.description());
    for pair in task.text_pairs(Split::Train, count, 0) {
        let (answer, alternative) = &pair.answers[0];
        println!("{}⟨{answer:?}⟩\n--- against ---\n{}⟨{alternative:?}⟩\n", pair.positive, pair.negative);
    }
}
