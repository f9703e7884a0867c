//! Of the page's small parts.

use super::*;

#[test]
fn text_cannot_become_markup() {
    assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    assert_eq!(prose("` <` in `x`"), "<code> &lt;</code> in <code>x</code>");
}
