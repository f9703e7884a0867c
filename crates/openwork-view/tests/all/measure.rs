//! Speed of the page on a circuit of 2,000 edges: `cargo xtask web --measure`.

use std::time::Duration;

use serde_json::json;

use crate::{
    driver::Browser,
    files::{add_large, copy},
    server::served,
};

/// Median and 95th percentile of a list.
fn quantiles(list: &mut [f64]) -> [f64; 2] {
    list.sort_by(f64::total_cmp);
    [0.5, 0.95].map(|q| list[((list.len() - 1) as f64 * q).round() as usize])
}

#[test]
#[ignore = "measures; cargo xtask web --measure runs it"]
fn measure_first_paint_and_frames() {
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = copy();
    let edges = add_large(dir.path(), 2000);
    served(&[dir.path().to_owned()], |url| {
        let (mut first, mut drawn) = (vec![], vec![]);
        for _ in 0..7 {
            browser.send("Page.navigate", json!({ "url": "about:blank" }));
            std::thread::sleep(Duration::from_millis(300));
            browser.open(&format!("{url}#circuit=0"));
            browser.wait_for("performance.getEntriesByName('drawn').length > 0");
            let times = browser.value(
                "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done([performance.getEntriesByName('first-contentful-paint')[0].startTime, \
                 performance.now()]), 0))).then(([a]) => [a, performance.getEntriesByName('drawn')[0].startTime])",
            );
            first.push(times[0].as_f64().unwrap());
            drawn.push(times[1].as_f64().unwrap());
        }
        let wires = browser.value("document.querySelectorAll('svg.graph path.wire').length");
        // The mouse drags the graph, and the page counts the time from frame to frame.
        let [x, y] = browser.middle(".port");
        browser.value(
            "(() => { globalThis.frames_at = []; const f = (t) => { frames_at.push(t); globalThis.watching && requestAnimationFrame(f); }; \
             globalThis.watching = true; requestAnimationFrame(f); })()",
        );
        let mouse = |browser: &mut Browser, kind: &str, dx: f64, buttons: u32| {
            let event =
                json!({ "type": kind, "x": x + dx, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
            browser.send("Input.dispatchMouseEvent", event);
        };
        mouse(&mut browser, "mousePressed", 0.0, 1);
        let before = browser.value("frames_at.length").as_u64().unwrap();
        for step in 0..240 {
            mouse(&mut browser, "mouseMoved", 200.0 * (f64::from(step) / 20.0).sin(), 1);
        }
        mouse(&mut browser, "mouseReleased", 0.0, 0);
        let times = browser.value(&format!("(globalThis.watching = false, frames_at.slice({before}))"));
        let times: Vec<f64> = times.as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect();
        let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let rate = 1000.0 * gaps.len() as f64 / gaps.iter().sum::<f64>();
        let late = gaps.iter().filter(|&&gap| gap > 25.0).count();
        let [median, slow] = quantiles(&mut gaps);
        let ([first, first_slow], [drawn, drawn_slow]) = (quantiles(&mut first), quantiles(&mut drawn));
        let record = json!({
            "command": "cargo xtask web --measure",
            "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "edges": edges,
            "edges_drawn": wires,
            "first_contentful_paint_ms": { "median": first, "p95": first_slow },
            "graph_drawn_ms": { "median": drawn, "p95": drawn_slow },
            "panning": {
                "frames": times.len(), "frames_per_second": rate, "frame_ms": { "median": median, "p95": slow },
                "later_than_25_ms": late,
            },
        });
        println!("{record:#}");
        if let Some(path) = std::env::var_os("OPENWORK_MEASURED") {
            std::fs::write(path, format!("{record:#}\n")).unwrap();
        }
    });
}
