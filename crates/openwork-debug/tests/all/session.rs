//! Stops, edits and comparisons of a session.

use openwork_debug::{Change, Flip, Reason, Reply, SessionError, Trace};

use crate::{model, run, session, stop, value};

#[track_caller]
fn at(answered: &openwork_debug::Answered) -> String {
    stop(answered).point.map_or("nowhere".into(), |point| point.to_string())
}

#[test]
fn steps_go_through_points_in_the_order_of_the_pass() {
    let mut s = session(model(1));
    run(&mut s, "prompt p \"abc\"");
    let found: Vec<String> = ["step", "step", "step", "step", "step 3", "next", "next", "continue"]
        .map(|line| at(&run(&mut s, line)))
        .to_vec();
    let expected = [
        "0.resid_in@0",
        "0.resid_in@1",
        "0.resid_in@2",
        "0.attn.act_in@0",
        "0.attn.q@0",
        "1.resid_in@0",
        "2.final_resid@0",
        "nowhere",
    ];
    assert_eq!(found, expected);
    assert!(stop(&run(&mut s, "step")).finished && !stop(&run(&mut s, "restart")).finished);
    assert_eq!(at(&run(&mut s, "next")), "0.resid_in@0");
}

#[test]
fn a_run_stops_at_sites_nodes_positions_and_conditions_once_each() {
    let m = model(1);
    let trace = Trace::run(&m, &[0, 1, 2, 3], &[]);
    let node = |text: &str| text.parse().unwrap();
    let stops = |line: &str| {
        let mut s = session(m.clone());
        run(&mut s, &format!("prompt b \"abxd\"; prompt p \"abcd\"; break {line}"));
        let mut found = vec![];
        loop {
            let answered = run(&mut s, "continue");
            if stop(&answered).finished {
                return found;
            }
            assert!(matches!(stop(&answered).reasons[..], [Reason::Breakpoint { number: 1, .. }]));
            found.push(at(&answered));
        }
    };
    assert_eq!(stops("1.attn.y@-2"), ["1.attn.y@2"]);
    assert_eq!(stops("logits"), ["logits@0", "logits@1", "logits@2", "logits@3"]);
    assert_eq!(stops("@3").len(), m.config.sites().len() + 1);
    let active = |name: &str, least: f32| -> Vec<String> {
        let site = name.split('[').next().unwrap();
        (0..4).filter(|&p| trace.value(node(name), p).abs() > least).map(|p| format!("{site}@{p}")).collect()
    };
    let neuron = (0..16)
        .map(|i| format!("1.mlp.post_act[{i}]"))
        .find(|name| (1..4).contains(&active(name, 0.0).len()))
        .expect("a neuron that is active at some positions");
    assert_eq!(stops(&neuron), active(&neuron, 0.0));
    assert_eq!(stops(&format!("abs({neuron}) > 0.01")), active(&neuron, 0.01));
    // The value of a fixed position is there once.
    assert_eq!(stops("0.attn.q[1]@2 == 0.attn.q[1]@2"), ["0.attn.q@2"]);
    // The prompts are the same before position 2, and differ there from the embedding on.
    let changed = stops("changed 0.resid_in[3] by 1e-3 against b");
    assert_eq!(changed, ["0.resid_in@2"]);
    let ahead: Vec<String> =
        (0..4).filter(|&p| trace.logits()[[4, p]] > trace.logits()[[7, p]]).map(|p| format!("logits@{p}")).collect();
    assert_eq!(stops("logit(\"e\") > logit(\"h\")"), ahead);
}

#[test]
fn edits_are_those_of_a_run_with_changes_and_come_back_bit_for_bit() {
    let m = model(2);
    let mut s = session(m.clone());
    run(&mut s, "prompt b \"abxd\"; prompt p \"abcd\"; break 1.resid_in@0; continue");
    let plain = value(&run(&mut s, "print logit(\"e\")@last"));
    let node = "1.mlp.post_act[5]".parse().unwrap();
    let of = |changes: &[Change]| f64::from(Trace::run(&m, &[0, 1, 2, 3], changes).logits()[[4, 3]]);
    assert_eq!(plain, of(&[]));
    run(&mut s, "set 1.mlp.post_act[5]@2 = 3.5");
    assert_eq!(value(&run(&mut s, "print logit(\"e\")@last")), of(&[Change { node, position: 2, value: 3.5 }]));
    let theirs = Trace::run(&m, &[0, 1, 23, 3], &[]);
    run(&mut s, "set 1.mlp.post_act[5] = of b");
    let all: Vec<Change> = (0..4).map(|p| Change { node, position: p, value: theirs.value(node, p) }).collect();
    let answered = run(&mut s, "print logit(\"e\")@last");
    assert_eq!(value(&answered), of(&all));
    assert_eq!(
        answered.context.edits,
        ["1.mlp.post_act[5]@2 = 3.5 on p", "1.mlp.post_act[5] = of b on p"],
        "every answer has the edits in force"
    );
    // The other prompt is as it was, and the weights are edited for both.
    assert_eq!(value(&run(&mut s, "print logit(\"e\")@last of b")), f64::from(theirs.logits()[[4, 3]]));
    let weight = value(&run(&mut s, "use b; print logit(\"e\")@last"));
    run(&mut s, "set 1.mlp.act_in[3] -> 1.mlp.post_act[5] = 2; set transformer.wte.weight[1,3] = 0.25");
    let mut edited = m.clone();
    edited.params.blocks[1].fc.weight.update(|w| w[[5, 3]] = 2.0);
    edited.params.embed.update(|w| w[[1, 3]] = 0.25);
    let by_hand = Trace::run(&edited, &[0, 1, 23, 3], &[]);
    assert_eq!(value(&run(&mut s, "print logit(\"e\")@last")), f64::from(by_hand.logits()[[4, 3]]));
    assert_ne!(weight, f64::from(by_hand.logits()[[4, 3]]));
    run(&mut s, "undo; undo");
    assert_eq!(value(&run(&mut s, "print logit(\"e\")@last")), weight);
    assert_eq!(s.model().sha256(), m.sha256());
    run(&mut s, "use p; undo; undo");
    assert_eq!(value(&run(&mut s, "print logit(\"e\")@last")), plain);
    assert!(matches!(s.line("undo"), Err(SessionError::NothingToUndo)));
}

#[test]
fn the_mean_is_that_of_the_node_and_the_answer_says_if_the_run_had_come_past() {
    let mut s = session(model(2));
    run(&mut s, "prompt p \"abcd\"; break 1.attn.q@1; continue");
    for (line, late) in [("set 1.mlp.post_act[5] = mean", false), ("set 0.mlp.post_act[5]@1 = mean", true)] {
        match run(&mut s, line).reply {
            Reply::Edited { passed, .. } => assert_eq!(passed, late, "{line}"),
            other => panic!("{other}"),
        }
    }
    let space = openwork_circuit::NodeSpace::new(&s.model().config);
    let number = space.number("0.mlp.post_act[5]".parse().unwrap()).unwrap();
    let found = value(&run(&mut s, "print 0.mlp.post_act[5]@1"));
    assert_eq!(found, f64::from(number as f32 / 1000.0));
    assert!(matches!(s.line("set 0.resid_in[5] = mean"), Err(SessionError::NoMean { .. })));
}

#[test]
fn a_watch_stops_where_its_value_is_another_than_it_was() {
    let mut s = session(model(3));
    run(&mut s, "prompt p \"abcd\"; watch 1.attn.v[2]@1");
    assert!(stop(&run(&mut s, "continue")).finished, "one value a run does not change");
    assert!(stop(&run(&mut s, "restart; continue")).finished);
    let before = value(&run(&mut s, "print 1.attn.v[2]@1"));
    run(&mut s, "set 1.attn.act_in[4]@1 = 9; restart");
    let answered = run(&mut s, "continue");
    let after = value(&run(&mut s, "print 1.attn.v[2]@1"));
    assert_ne!(before, after, "the weight is not zero");
    assert_eq!(at(&answered), "1.attn.v@1");
    let reason = Reason::Watch { number: 1, expression: "1.attn.v[2]@1".into(), from: before, to: after };
    assert_eq!(stop(&answered).reasons, [reason]);
}

#[test]
fn the_set_of_a_difference_flips_the_answer_and_no_smaller_part_of_it_does() {
    let mut sets = 0;
    for seed in 0..6 {
        let m = model(seed);
        let mut s = session(m.clone());
        run(&mut s, "prompt b \"abxd\"; prompt a \"abcd\"");
        let Reply::Difference { difference, .. } = run(&mut s, "diff a b").reply else { panic!("a difference") };
        assert_eq!(difference.first_token, Some(2));
        assert_eq!(
            difference.parting.as_ref().map(|p| (p.node.to_string(), p.position)),
            Some(("0.resid_in[0]".into(), 2))
        );
        let (own, theirs) = (Trace::run(&m, &[0, 1, 2, 3], &[]), Trace::run(&m, &[0, 1, 23, 3], &[]));
        let [x, y] = difference.tokens.map(usize::from);
        let lead = |nodes: &[openwork_circuit::Node]| {
            let changes: Vec<Change> = nodes
                .iter()
                .flat_map(|&node| (0..4).map(move |position| (node, position)))
                .map(|(node, position)| Change { node, position, value: theirs.value(node, position) })
                .collect();
            let run = Trace::run(&m, own.tokens(), &changes);
            f64::from(run.logits()[[x, 3]]) - f64::from(run.logits()[[y, 3]])
        };
        assert_eq!(difference.lead[0], lead(&[]));
        for carrier in difference.carriers.iter().take(5) {
            assert_eq!(carrier.lead, lead(&[carrier.node]), "{}", carrier.node);
        }
        let Flip::Set { nodes, lead: flipped, .. } = &difference.flip else { continue };
        sets += 1;
        assert_eq!(*flipped, lead(nodes));
        assert!(flipped.signum() == difference.lead[1].signum() && flipped.signum() != difference.lead[0].signum());
        for out in 0..nodes.len() {
            let mut fewer = nodes.clone();
            fewer.remove(out);
            assert_ne!(lead(&fewer).signum(), difference.lead[1].signum(), "{} is not needed", nodes[out]);
        }
    }
    assert!(sets >= 2, "{sets}");
}

#[test]
fn what_cannot_be_done_is_said_with_what_can() {
    let mut s = session(model(1));
    assert!(matches!(s.line("step"), Err(SessionError::NoPrompt)));
    assert!(matches!(s.line("prompt p \"\""), Err(SessionError::Empty { .. })));
    assert!(matches!(s.line("prompt p \"abcdefghi\""), Err(SessionError::TooLong { tokens: 9, n_ctx: 8, .. })));
    run(&mut s, "prompt q \"ab\"; prompt p \"abcd\"");
    let words = |line: &str, s: &mut openwork_debug::Session| s.line(line).unwrap_err().to_string();
    assert_eq!(words("print 0.attn.q[1]@4", &mut s), "prompt \"p\" has positions 0 to 3, and none @4");
    assert_eq!(words("delete 3", &mut s), "there is no breakpoint 3");
    assert_eq!(words("diff p p", &mut s), "prompt \"p\" is compared with itself");
    run(&mut s, "break 0.attn.q@2; continue");
    assert!(words("print 0.attn.q[1] of q", &mut s).starts_with("position 2 has no counterpart in prompt \"q\""));
}

#[test]
fn the_contexts_of_a_node_are_those_at_which_it_is_above_the_bound() {
    let m = model(4);
    let tokens: Vec<u16> = (0..200).map(|i| (i * i * 7 % 26) as u16).collect();
    let mut s = session(m.clone());
    assert!(matches!(s.line("where 1.mlp.post_act[5]"), Err(SessionError::NoContexts)));
    s.set_contexts(openwork_debug::Contexts::new(tokens.clone(), 8));
    let node: openwork_circuit::Node = "1.mlp.post_act[5]".parse().unwrap();
    let values: Vec<f32> =
        tokens.chunks(8).flat_map(|w| Trace::run(&m, w, &[]).site(node.site).row(5).to_vec()).collect();
    let Reply::Where(found) = run(&mut s, "where 1.mlp.post_act[5] above 0.01 --windows 20").reply else {
        panic!("contexts")
    };
    let firing: Vec<usize> = (0..160).filter(|&at| values[at] > 0.01).collect();
    assert!(firing.len() > 5, "the test has something to find");
    assert_eq!((found.windows, found.positions), (20, [160, firing.len()]));
    let largest = firing.iter().map(|&at| values[at]).fold(0.0, f32::max);
    assert_eq!(found.top[0].value, largest);
    assert!(found.top.is_sorted_by(|a, b| a.value >= b.value && a.window != b.window));
    for fired in found.top.iter().chain(&found.drawn) {
        let at = fired.window * 8 + fired.position;
        assert!(firing.contains(&at) && fired.value == values[at]);
        assert_eq!(fired.token, format!("\"{}\"", char::from(b'a' + tokens[at] as u8)));
        assert_eq!(fired.before.len(), fired.position);
    }
    let distance = |value: f32| (value - 0.01).abs();
    let nearest = values[..160].iter().filter(|v| **v != 0.0).map(|&v| distance(v)).fold(f32::INFINITY, f32::min);
    assert_eq!(distance(found.near[0].value), nearest);
}
