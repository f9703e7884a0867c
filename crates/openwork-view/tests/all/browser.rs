//! The page in a browser, with real clicks and keys.

use std::path::Path;

use openwork_view::{View, export};
use serde_json::json;

use crate::{
    driver::Browser,
    files::{HOSTILE, add_hostile, circuit_file, copy},
    server::served,
};

/// Nothing came from elsewhere, and nothing went wrong.
fn clean(browser: &mut Browser, url: &str) {
    for asked in browser.requests() {
        let own = asked.starts_with(url)
            || asked.starts_with("data:")
            || asked.starts_with("blob:")
            || asked == "about:blank";
        assert!(own, "the page asked for {asked}");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

fn node(name: &str) -> String {
    format!("svg.graph [aria-label$=\", {name}\"]")
}

#[test]
fn browser_circuit_node_and_label() {
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = copy();
    served(&[dir.path().to_owned()], |url| {
        browser.open(url);
        browser.wait_for("document.querySelectorAll('svg.graph .wire').length === 7");
        assert!(browser.text("header").contains("PASS (STRONG)") && browser.text("header").contains("level 5 of 6"));
        browser.screenshot("circuit");
        // A node: its edges, its page, its contexts.
        browser.click(&node("0.attn.v[25]"));
        browser.wait_for("location.hash.includes('node=0.attn.v')");
        browser.wait_for("document.querySelectorAll('.example .token').length > 50");
        assert!(browser.text("aside").contains("Value channel"));
        browser.screenshot("node");
        // A label is typed, saved, and drawn.
        browser.click(".label-form input");
        browser.type_text("a file was opened");
        browser.click(".label-form button");
        browser.wait_for("document.querySelector('svg.graph').textContent.includes('a file was opened')");
        let saved = std::fs::read_to_string(circuit_file(dir.path(), "with_as")).unwrap();
        assert!(saved.contains("\"name\": \"a file was opened\""));
        // A neighbour is followed, and the path is in the address.
        browser.click("aside .follow");
        browser.wait_for("location.hash.includes('path=') && document.querySelectorAll('.wire.on-path').length === 1");
        browser.value("location.reload()");
        browser
            .wait_for("document.querySelectorAll('.wire.on-path').length === 1 && document.querySelector('aside h3')");
        // A head is folded into one box, and unfolds with a click.
        browser.click(".fold summary");
        browser.click(".fold label:nth-child(2) input");
        browser.wait_for("document.querySelectorAll('svg.graph .box').length === 6");
        browser.click(".box.folded");
        browser.wait_for("document.querySelectorAll('svg.graph .box').length === 8");
        // Edges below a share of the largest are hidden, and those that lead nowhere with them.
        browser.value(
            "(() => { const e = document.querySelector('.tools input[type=range]'); e.value = '1'; \
             e.dispatchEvent(new Event('input', { bubbles: true })); })()",
        );
        browser.wait_for("document.querySelector('.legend').textContent.includes('hidden')");
        clean(&mut browser, url);
    });
}

#[test]
fn browser_prompt_edits_and_causes() {
    let Some(mut browser) = Browser::start(1280, 1100) else { return };
    let dir = copy();
    served(&[dir.path().to_owned()], |url| {
        browser.open(url);
        browser.click(".views button:nth-child(2)");
        browser.wait_for("document.querySelectorAll('.answers tbody tr').length === 10");
        // Typing asks the model.
        browser.click(".asking textarea");
        browser.value("document.querySelector('.asking textarea').select()");
        browser.press("Backspace");
        browser.type_text("with open(\"a.csv\", \"w\")");
        browser.wait_for(
            "document.querySelector('.answers tbody tr').textContent.includes('\u{b7}as') && \
                          document.querySelectorAll('.tokens button').length === 9",
        );
        let share = |browser: &mut Browser| browser.text(".answers tbody tr td.n");
        assert_eq!(
            browser.value("document.querySelector('.asking textarea').value"),
            json!("with open(\"a.csv\", \"w\")")
        );
        let before = share(&mut browser);
        // A node is ablated, and the answer is another; it is taken back, and the answer is as it was.
        browser.click(".values tbody tr:last-child button");
        browser.wait_for("document.querySelector('.setter')");
        browser.click(".setter .row button:nth-of-type(1)");
        browser.wait_for("document.querySelector('.answers thead').textContent.includes('unedited')");
        browser.wait_for("!document.querySelector('.answers tbody tr').textContent.startsWith('\u{b7}as')");
        assert!(browser.value("location.hash").as_str().unwrap().contains("mean"));
        browser.screenshot("prompt");
        browser.click(".edits li button");
        browser
            .wait_for(&format!("document.querySelector('.answers tbody tr td.n').textContent === {}", json!(before)));
        // The slider sets it.
        let [x, y] = browser.middle(".setter input[type=range]");
        for (kind, buttons) in [("mousePressed", 1), ("mouseReleased", 0)] {
            let event =
                json!({ "type": kind, "x": x - 60.0, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
            browser.send("Input.dispatchMouseEvent", event);
        }
        browser.wait_for("location.hash.includes('edits=') && !location.hash.includes('mean')");
        browser.wait_for("document.querySelector('.answers thead').textContent.includes('unedited')");
        browser.click(".edits > button");
        browser.wait_for("!location.hash.includes('edits=')");
        browser.wait_for("document.querySelector('.answers tbody tr').textContent.startsWith('\u{b7}as')");
        // The causes of a logit, whose parts add up to it.
        browser.click(".answers tbody tr button");
        browser.wait_for("document.querySelectorAll('.tree li').length > 3");
        browser.choose(".wide select", "zero");
        browser.wait_for("document.querySelector('.tree .effect')");
        browser.screenshot("causes");
        clean(&mut browser, url);
    });
}

#[test]
fn browser_verdict_side_by_side_and_training() {
    let Some(mut browser) = Browser::start(1280, 1200) else { return };
    let dir = copy();
    // A short log, as training writes it.
    let line = |step: u32, loss: f64| {
        format!(
            "{{\"step\":{step},\"loss\":{loss},\"lr\":0.01,\"pfrac\":16.0,\"grad_rms\":0.001,\"l0\":{},\"churn\":0.0,\
             \"dead_neurons\":0,\"tokens\":1,\"tokens_per_second\":1.0}}\n",
            1000 - step
        )
    };
    let log: String = (0..50).map(|step| line(step, 7.0 - f64::from(step) / 10.0)).collect();
    std::fs::write(dir.path().join("log.jsonl"), log).unwrap();
    served(&[dir.path().to_owned()], |url| {
        browser.open(url);
        browser.click(".contents li:nth-child(1) button");
        browser.click(".views button:nth-child(3)");
        browser.wait_for("document.querySelector('.replayed')?.textContent.includes('the same, up to rounding')");
        browser.wait_for("document.querySelectorAll('table.matrix .shade').length > 20");
        assert!(browser.text(".headline").contains("REFUTED"));
        browser.screenshot("verdict");
        browser.choose(".verdict-view .tools select", "loss");
        browser.wait_for("location.hash.includes('matrix=loss')");
        browser.click(".counter button");
        browser.wait_for(
            "document.querySelectorAll('.answers tbody tr').length === 10 && location.hash.includes('tokens=')",
        );
        browser.click(".views button:nth-child(4)");
        browser.wait_for("document.querySelectorAll('svg.graph').length === 2 && document.querySelectorAll('.box.only').length === 21");
        browser.screenshot("side-by-side");
        browser.click(".views button:nth-child(5)");
        browser.wait_for("document.querySelectorAll('svg.chart').length === 4");
        browser.screenshot("training");
        clean(&mut browser, url);
    });
}

#[test]
fn browser_hostile_texts_stay_texts() {
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = copy();
    add_hostile(dir.path());
    served(&[dir.path().to_owned()], |url| {
        browser.open(&format!("{url}#circuit=0&node=0.attn.v%5B25%5D"));
        browser.wait_for("document.querySelectorAll('.example').length > 3");
        let shown = browser.text("body");
        assert!(shown.contains("</script><script>globalThis.hit=1</script>"), "it is shown as it is");
        assert!(
            shown.contains("\\u202edesrever") && !shown.contains('\u{202e}'),
            "marks of direction are seen and do nothing"
        );
        for view in ["prompt", "verdict", "compare", "training", "graph"] {
            browser.value(&format!("location.hash = 'circuit=0&view={view}'"));
            browser.wait_for(&format!(
                "location.hash.includes('{view}') && document.querySelector('main').textContent.length > 20"
            ));
        }
        browser.value("location.hash = 'circuit=2&view=prompt'");
        browser.click(".asking textarea");
        browser.value("document.querySelector('.asking textarea').select()");
        browser.send("Input.insertText", json!({ "text": HOSTILE }));
        browser.wait_for(
            "[...document.querySelectorAll('.tokens .token')].map((t) => t.textContent).join('').includes('onerror')",
        );
        assert_eq!(
            browser.value("globalThis.hit === undefined && document.querySelector('img') === null"),
            json!(true)
        );
        // Nothing widens the page.
        assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth"), json!(true));
        clean(&mut browser, url);
    });
}

#[test]
fn browser_exported_file_needs_no_server() {
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = copy();
    add_hostile(dir.path());
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let path = dir.path().join("page.html");
    export(&view, &path).unwrap();
    let url = address_of(&path);
    browser.open(&url);
    browser.wait_for("document.querySelectorAll('svg.graph .wire').length === 7");
    browser.click(&node("0.attn.v[25]"));
    browser.wait_for("document.querySelectorAll('.example .token').length > 50");
    browser.click(".views button:nth-child(2)");
    browser.wait_for("document.querySelectorAll('.answers tbody tr').length === 10");
    assert_eq!(browser.value("document.querySelector('.asking textarea').disabled"), json!(true));
    assert!(browser.text("main").contains("openwork view MODEL"));
    let likely = browser.text(".answers tbody tr");
    browser.click(".answers tbody tr button");
    browser.wait_for("document.querySelectorAll('.tree li').length > 3");
    assert!(likely.contains("as"));
    browser.click(".views button:nth-child(3)");
    browser.wait_for("document.querySelector('.headline')");
    browser.click(".views button:nth-child(4)");
    browser.wait_for("document.querySelectorAll('svg.graph').length === 2");
    assert_eq!(browser.value("globalThis.hit === undefined"), json!(true));
    clean(&mut browser, &url);
}

fn address_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn browser_keyboard_and_narrow_pages() {
    let Some(mut browser) = Browser::start(400, 800) else { return };
    let dir = copy();
    served(&[dir.path().to_owned()], |url| {
        browser.open(url);
        browser.wait_for("document.querySelectorAll('svg.graph .wire').length === 7");
        browser.screenshot("narrow");
        for view in ["graph", "prompt", "verdict", "compare", "training"] {
            browser.value(&format!("location.hash = 'view={view}&circuit=0&node=1.attn.v%5B81%5D'"));
            browser.wait_for(&format!("location.hash.includes('{view}') && !document.querySelector('.waiting')"));
            let wide = browser.value(
                "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 401 && !e.closest('.scroll, .port, .hidden')) \
                 .map((e) => e.outerHTML.slice(0, 80)).slice(0, 3)",
            );
            let width = browser.value("document.documentElement.scrollWidth");
            assert!(width.as_f64().unwrap() <= 400.0, "{view} is {width} pixels wide: {wide}");
        }
        // With keys alone: into the graph, along its edges, to a node's page.
        browser.value("location.hash = 'circuit=1'");
        browser.wait_for(
            "document.querySelectorAll('svg.graph .wire').length === 7 && !document.querySelector('.node-panel')",
        );
        browser.value("document.querySelector('.port').focus()");
        browser.wait_for("document.activeElement.matches('.port')");
        browser.press("Tab");
        browser.wait_for("document.activeElement.matches('svg.graph .box')");
        let first = browser.value("document.activeElement.getAttribute('aria-label')");
        browser.press("ArrowUp");
        let up = browser.value("document.activeElement.getAttribute('aria-label')");
        assert!(first != up && !up.as_str().unwrap().contains("act_in"), "{first} and then {up}");
        assert!(browser.text(".look").contains('\u{2190}'), "the focus shows a node's edges");
        browser.press("ArrowRight");
        browser.press("Enter");
        browser.wait_for("document.querySelector('.node-panel') && location.hash.includes('node=')");
        clean(&mut browser, url);
    });
}

#[test]
fn browser_downloads_and_time_line() {
    let Some(mut browser) = Browser::start(1280, 1000) else { return };
    // Two models of one run, as far as the page can tell.
    let (dir, later) = (copy(), copy());
    let folder = tempfile::tempdir().unwrap();
    served(&[dir.path().to_owned(), later.path().to_owned()], |url| {
        browser.open(url);
        browser.wait_for("document.querySelectorAll('svg.graph .wire').length === 7");
        let allow = json!({ "behavior": "allow", "downloadPath": folder.path() });
        browser.send("Page.setDownloadBehavior", allow);
        browser.click("[aria-label='JSON of Circuit with_as']");
        browser.click("[aria-label='SVG of Circuit with_as']");
        let read = |name: &str| {
            let started = std::time::Instant::now();
            loop {
                match std::fs::read_to_string(folder.path().join(name)) {
                    Ok(text) if !text.is_empty() => return text,
                    _ => assert!(started.elapsed().as_secs() < 20, "{name} was not downloaded"),
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        };
        let graph: serde_json::Value = serde_json::from_str(&read("with_as-graph.json")).unwrap();
        assert_eq!((graph["nodes"].as_array().unwrap().len(), graph["edges"].as_array().unwrap().len()), (8, 7));
        let drawing = read("with_as-graph.svg");
        assert!(
            drawing.starts_with("<svg") && drawing.contains("v 25") && !drawing.contains("var(--"),
            "it stands alone"
        );
        // The circuits of a task in the order of the models.
        browser.click(".views button:nth-child(5)");
        browser.wait_for("document.querySelectorAll('table.matrix').length === 2");
        browser.wait_for("document.querySelectorAll('table.matrix tbody tr').length === 21");
        assert_eq!(browser.value("document.querySelectorAll('table.matrix .mark .hidden').length"), json!(42));
        clean(&mut browser, url);
    });
}

/// Rules of accessibility whose breaches are serious or critical, by the checker that `cargo xtask web --check` installs.
#[test]
fn browser_accessibility() {
    let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/node_modules/axe-core/axe.min.js");
    let Ok(axe) = std::fs::read_to_string(axe) else {
        assert!(std::env::var_os("OPENWORK_REQUIRE_BROWSER").is_none(), "axe-core is not installed: npm ci in web/");
        eprintln!("SKIPPED: axe-core is not installed; `cargo xtask web --check` does it");
        return;
    };
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = copy();
    served(&[dir.path().to_owned()], |url| {
        let mut found = vec![];
        for theme in ["light", "dark"] {
            for view in ["graph", "prompt", "verdict", "compare", "training"] {
                for node in ["", "&node=1.attn.v%5B81%5D&why=5"] {
                    browser.send("Page.navigate", json!({ "url": "about:blank" }));
                    browser.open(&format!("{url}#circuit=0&view={view}&theme={theme}{node}"));
                    browser.wait_for("!document.querySelector('.waiting')");
                    browser.value(&axe);
                    let list = browser.value(
                        "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.filter((v) => v.impact === 'serious' || \
                         v.impact === 'critical').map((v) => v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')))",
                    );
                    let list = list.as_array().unwrap().clone();
                    found.extend(list.iter().map(|fault| format!("{theme} {view}: {}", fault.as_str().unwrap())));
                }
            }
        }
        assert_eq!(found, Vec::<String>::new());
    });
}
