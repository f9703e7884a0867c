//! The tasks as data. `fill` explains the placeholders.

use crate::task::{Task, Template};

const fn t(positive: &'static str, negative: &'static str) -> Template {
    Template { positive, negative }
}

#[rustfmt::skip]
pub(crate) static TASKS: &[Task] = &[
    Task {
        name: "single_double_quote",
        description: "close a string with the quotation mark that opened it: `\")` or `')`",
        answers: &[("\")\n", "')\n"), ("\")", "')")],
        open: false,
        templates: &[
            t("$(context)print(\"$message", "$(context)print('$message"),
            t("$(context)$thing = $Class(\"$word", "$(context)$thing = $Class('$word"),
            t("$(context)$(func)(\"$word", "$(context)$(func)('$word"),
            t("$(context)$thing = input(\"$message", "$(context)$thing = input('$message"),
            t("$(context)logger.info(\"$message", "$(context)logger.info('$message"),
            t("$(context)$things.append(\"$word", "$(context)$things.append('$word"),
            t("def $func($text):\n$(inner)    print(\"$message", "def $func($text):\n$(inner)    print('$message"),
            t("if $num == $n:\n    print(\"$message", "if $num == $n:\n    print('$message"),
        ],
        held_out: &[
            t("$(context)logger.error(\"$message", "$(context)logger.error('$message"),
            t("$(context)$things = $text.split(\"$word", "$(context)$things = $text.split('$word"),
            t("while $flag:\n$(inner)    $thing = $Class(\"$word", "while $flag:\n$(inner)    $thing = $Class('$word"),
            t("for $thing in $things:\n    print(\"$message", "for $thing in $things:\n    print('$message"),
        ],
    },
    Task {
        name: "bracket_counting",
        description: "close a list as deep as it was opened: `]]` or `]`",
        answers: &[("]]\n", "]\n"), ("]]", "]")],
        open: false,
        templates: &[
            t("$(context)$things = [[$ints, $n", "$(context)$things = [$ints, $n"),
            t("$(context)$things = [[$ints1], [$ints2, $n", "$(context)$things = [$ints1, $ints2, $n"),
            t("$(context)$things = [[$ints1], [$ints2], [$n1, $n2", "$(context)$things = [$ints1, $ints2, $n1, $n2"),
            t("$(context)$things = [[\"$word1\"], [$n1, $n2", "$(context)$things = [\"$word1\", $n1, $n2"),
            t("def $func($num):\n$(inner)    $things = [[$ints, $n", "def $func($num):\n$(inner)    $things = [$ints, $n"),
        ],
        held_out: &[
            t("if $num == $n1:\n    $things = [[$ints, $n", "if $num == $n1:\n    $things = [$ints, $n"),
            t("while $flag:\n    $things = [[$n1], [$n2], [$n3], [$n4", "while $flag:\n    $things = [$n1, $n2, $n3, $n4"),
            t("for $thing in $things1:\n    $things = [[$n1, $n2], [$ints", "for $thing in $things1:\n    $things = [$n1, $n2, $ints"),
        ],
    },
    Task {
        name: "set_or_string",
        description: "use a variable as what it was made: `.add` for a set, ` +=` for a text",
        answers: &[(".add", " +=")],
        open: false,
        templates: &[
            t("$(context)$gathered = set()\n$(context2)$gathered", "$(context)$gathered = \"\"\n$(context2)$gathered"),
            t("$(context)$gathered = set()\nfor $thing in $things:\n    $gathered", "$(context)$gathered = \"\"\nfor $thing in $things:\n    $gathered"),
            t("$gathered = set()\n$(context)for $thing in $things:\n    if $num == $n:\n        $gathered", "$gathered = \"\"\n$(context)for $thing in $things:\n    if $num == $n:\n        $gathered"),
            t("def $func($things):\n    $gathered = set()\n$(inner)    for $thing in $things:\n        $gathered", "def $func($things):\n    $gathered = \"\"\n$(inner)    for $thing in $things:\n        $gathered"),
        ],
        held_out: &[
            t("def $func($things):\n    $gathered = set()\n    for $thing in $things:\n        if $thing in $things1:\n            $gathered", "def $func($things):\n    $gathered = \"\"\n    for $thing in $things:\n        if $thing in $things1:\n            $gathered"),
            t("$gathered = set()\n$(context)for $counter, $thing in enumerate($things):\n    print(\"$message\")\n    $gathered", "$gathered = \"\"\n$(context)for $counter, $thing in enumerate($things):\n    print(\"$message\")\n    $gathered"),
        ],
    },
    Task {
        name: "set_or_string_fixedvarname",
        description: "the same with a variable that is always called `current`",
        answers: &[(".add", " +=")],
        open: false,
        templates: &[
            t("$(context)current = set()\nprint(\"$message\")\n$(context2)current", "$(context)current = \"\"\nprint(\"$message\")\n$(context2)current"),
            t("$(context)current = set()\nfor $thing in $things:\n    current", "$(context)current = \"\"\nfor $thing in $things:\n    current"),
            t("current = set()\n$(context)for $thing in $things:\n    if $num == $n:\n        current", "current = \"\"\n$(context)for $thing in $things:\n    if $num == $n:\n        current"),
            t("def $func($things):\n    current = set()\n$(inner)    for $thing in $things:\n        current", "def $func($things):\n    current = \"\"\n$(inner)    for $thing in $things:\n        current"),
        ],
        held_out: &[
            t("def $func($things):\n    current = set()\n    for $thing in $things:\n        if $thing in $things1:\n            current", "def $func($things):\n    current = \"\"\n    for $thing in $things:\n        if $thing in $things1:\n            current"),
            t("current = set()\n$(context)for $counter, $thing in enumerate($things):\n    print(\"$message\")\n    current", "current = \"\"\n$(context)for $counter, $thing in enumerate($things):\n    print(\"$message\")\n    current"),
        ],
    },
    Task {
        name: "for_while",
        description: "` in` after the variable of a `for`, `:` after that of a `while`",
        answers: &[(" in", ":\n"), (" in", ":")],
        open: false,
        templates: &[
            t("$(context)for $thing", "$(context)while $thing"),
            t("$(context)$flag = True\nfor $thing", "$(context)$flag = True\nwhile $thing"),
            t("def $func($things):\n$(inner)    for $thing", "def $func($things):\n$(inner)    while $thing"),
            t("if $num == $n:\n    for $thing", "if $num == $n:\n    while $thing"),
        ],
        held_out: &[
            t("class $Class:\n    def $func(self):\n        for $thing", "class $Class:\n    def $func(self):\n        while $thing"),
            t("for $thing1 in $things:\n    for $thing", "for $thing1 in $things:\n    while $thing"),
        ],
    },
    Task {
        name: "if_equals",
        description: "` ==` in a condition, ` =` in an assignment",
        answers: &[(" ==", " =")],
        open: false,
        templates: &[
            t("$(context)if $num", "$(context)$num"),
            t("$(context)$flag = True\nif $text", "$(context)$flag = True\n$text"),
            t("def $func($num, $text):\n$(inner)    if $num", "def $func($num, $text):\n$(inner)    $num"),
            t("for $thing in $things:\n    if $num", "for $thing in $things:\n    $num"),
        ],
        held_out: &[
            t("while True:\n    $thing = input(\"$message\")\n    if $text", "while True:\n    $thing = input(\"$message\")\n    $text"),
            t("class $Class:\n    def $func(self):\n        if $num", "class $Class:\n    def $func(self):\n        $num"),
        ],
    },
    Task {
        name: "while_return_true",
        description: "`:` after `while True`, a new line after `return True`",
        answers: &[(":\n", "\n"), (":", "\n")],
        open: false,
        templates: &[
            t("def $func($num):\n$(inner)    while True", "def $func($num):\n$(inner)    return True"),
            t("def $func($thing, $text):\n$(inner)    print(\"$message\")\n    while True", "def $func($thing, $text):\n$(inner)    print(\"$message\")\n    return True"),
            t("def $func($num):\n$(inner)    if $num == $n:\n        while True", "def $func($num):\n$(inner)    if $num == $n:\n        return True"),
            t("class $Class:\n    def $func(self):\n        while True", "class $Class:\n    def $func(self):\n        return True"),
        ],
        held_out: &[
            t("def $func($things):\n    for $thing in $things:\n        if $text == \"$word\":\n            while True", "def $func($things):\n    for $thing in $things:\n        if $text == \"$word\":\n            return True"),
            t("class $Class:\n    def $func(self):\n        $num = $n\n        while True", "class $Class:\n    def $func(self):\n        $num = $n\n        return True"),
        ],
    },
    Task {
        name: "final_kwarg",
        description: "a last parameter has a default when those before it have one: `=None` or `):`",
        answers: &[("=None", "):\n"), ("=None", "):"), ("=", ")")],
        open: false,
        templates: &[
            t("$(context)def $func($num=None, $text", "$(context)def $func($num, $text"),
            t("$(context)def $func($num=None, $text=None, $flag", "$(context)def $func($num, $text, $flag"),
            t("$(context)def $func($things=None, $num", "$(context)def $func($things, $num"),
        ],
        held_out: &[
            t("class $Class:\n    def __init__(self, $attr1=None, $attr2=None, $attr3", "class $Class:\n    def __init__(self, $attr1, $attr2, $attr3"),
            t("$(context)def $func($text=None, $thing=None, $num=None, $flag", "$(context)def $func($text, $thing, $num, $flag"),
        ],
    },
    Task {
        name: "class_init",
        description: "an initialiser keeps each argument under its own name",
        answers: &[(" $attr2", " $attr3")],
        open: true,
        templates: &[
            t("class $Class:\n    def __init__(self, $attr1, $attr2, $attr3):\n        self.$attr1 = $attr1\n        self.$attr2 =", "class $Class:\n    def __init__(self, $attr1, $attr2, $attr3):\n        self.$attr1 = $attr1\n        self.$attr3 ="),
            t("$(context)class $Class:\n    def __init__(self, $attr2, $attr3):\n        self.$attr2 =", "$(context)class $Class:\n    def __init__(self, $attr2, $attr3):\n        self.$attr3 ="),
        ],
        held_out: &[
            t("class $Class:\n    def __init__(self, $attr3, $attr1, $attr2, $attr4):\n        self.$attr2 =", "class $Class:\n    def __init__(self, $attr3, $attr1, $attr2, $attr4):\n        self.$attr3 ="),
        ],
    },
    Task {
        name: "with_as",
        description: "a file opened by `with` goes on with ` as`; by an assignment, with a new line",
        answers: &[("\")", "\")\n")],
        open: false,
        templates: &[
            t("$(context)with open(\"$rfile\", \"r", "$(context)file = open(\"$rfile\", \"r"),
            t("$(context)with open(\"$wfile\", \"w", "$(context)f = open(\"$wfile\", \"w"),
        ],
        held_out: &[
            t("def $func($text):\n$(inner)    with open(\"$rfile\", \"r", "def $func($text):\n$(inner)    f = open(\"$rfile\", \"r"),
        ],
    },
    Task {
        name: "bracket_brace",
        description: "`:` after a key of a dict, `,` after an element of a list",
        answers: &[("\":", "\",")],
        open: false,
        templates: &[
            t("$(context)$things = {\"$word1\": $n1, \"$word2", "$(context)$things = [\"$word1\", \"$word2"),
            t("$(context)$things = {\"$word1\": $n1, \"$word2\": $n2, \"$word3", "$(context)$things = [\"$word1\", \"$word2\", \"$word3"),
            t("$(context)$things = {\"$word1", "$(context)$things = [\"$word1"),
        ],
        held_out: &[
            t("def $func($num):\n    $things = {\"$word1\": $n1, \"$word2", "def $func($num):\n    $things = [\"$word1\", \"$word2"),
        ],
    },
    Task {
        name: "with_open",
        description: "a file's name tells whether it is opened to read or to write: `r` or `w`",
        answers: &[("r", "w")],
        open: false,
        templates: &[
            t("$(context)with open(\"$rfile\", \"", "$(context)with open(\"$wfile\", \""),
            t("$(context)f = open('$rfile', '", "$(context)f = open('$wfile', '"),
        ],
        held_out: &[
            t("def $func($text):\n$(inner)    with open('$rfile', '", "def $func($text):\n$(inner)    with open('$wfile', '"),
        ],
    },
    Task {
        name: "else_elif",
        description: "`:` after `else`, the variable of the condition after `elif`",
        answers: &[(":\n", " $num"), (":", " $num")],
        open: true,
        templates: &[
            t("$(context)if $num == $n:\n    print(\"$message\")\nelse", "$(context)if $num == $n:\n    print(\"$message\")\nelif"),
            t("$(context)if $num > $n:\n    $flag = True\nelse", "$(context)if $num > $n:\n    $flag = True\nelif"),
        ],
        held_out: &[
            t("def $func($num):\n    if $num == $n:\n        return True\n    else", "def $func($num):\n    if $num == $n:\n        return True\n    elif"),
        ],
    },
    Task {
        name: "fstring_brace",
        description: "an f-string goes on with a brace, another string is closed: ` {` or `\",`",
        answers: &[(" {", "\",")],
        open: false,
        templates: &[
            t("$(context)print(f\"$Label", "$(context)print(\"$Label"),
            t("$(context)print(f\"The $thing is", "$(context)print(\"The $thing is"),
        ],
        held_out: &[
            t("for $thing in $things:\n    print(f\"$Label", "for $thing in $things:\n    print(\"$Label"),
        ],
    },
    Task {
        name: "if_ternary",
        description: "` else` after the condition of a ternary, `:` after that of a statement",
        answers: &[(" else", ":\n"), (" else", ":")],
        open: false,
        templates: &[
            t("$(context)$num = $n if $flag", "$(context)if $flag"),
            t("$(context)$text = \"$word\" if $flag", "$(context)if $flag"),
        ],
        held_out: &[
            t("def $func($flag):\n$(inner)    $num = $n if $flag", "def $func($flag):\n$(inner)    if $flag"),
        ],
    },
    Task {
        name: "var_swap",
        description: "the last name of a swap is the first one on the left",
        answers: &[(" $swapped1", " $swapped2")],
        open: true,
        templates: &[
            t("$(context)$swapped1, $swapped2 = $swapped2,", "$(context)$swapped2, $swapped1 = $swapped1,"),
            t("if $num == $n:\n    $swapped1, $swapped2 = $swapped2,", "if $num == $n:\n    $swapped2, $swapped1 = $swapped1,"),
        ],
        held_out: &[
            t("def $func($num):\n    $swapped1, $swapped2 = $swapped2,", "def $func($num):\n    $swapped2, $swapped1 = $swapped1,"),
        ],
    },
    Task {
        name: "indent_for",
        description: "the body of a `for` is one level deeper: 4 columns or 8",
        answers: &[("   ", "       ")],
        open: false,
        templates: &[
            t("$(context)for $thing in $things:\n", "def $func($things):\n$(inner)    for $thing in $things:\n"),
            t("$(context)for $counter in range($num):\n", "def $func($num):\n$(inner)    for $counter in range($num):\n"),
        ],
        held_out: &[
            t("$(context)for $counter, $thing in enumerate($things):\n", "if $num == $n:\n    for $counter, $thing in enumerate($things):\n"),
        ],
    },
    Task {
        name: "lambda_func",
        description: "`:` after the parameter of a `lambda`, `(` after the name of a `def`",
        answers: &[(":", "("), (":", "():\n")],
        open: false,
        templates: &[
            t("$(context)$func = lambda $thing", "$(context)def $thing"),
            t("$(context)$text = lambda $thing", "$(context)def $thing"),
        ],
        held_out: &[
            t("while $flag:\n    $func = lambda $num", "while $flag:\n    def $num"),
        ],
    },
    Task {
        name: "enumerate_range",
        description: "two loop variables ask for ` enumerate`, one for ` range`",
        answers: &[(" enumerate", " range")],
        open: false,
        templates: &[
            t("$(context)$things = [$ints]\nfor $counter, $thing in", "$(context)$things = [$ints]\nfor $counter in"),
            t("def $func($thing, $things):\n$(inner)    for $counter, $thing in", "def $func($thing, $things):\n$(inner)    for $counter in"),
        ],
        held_out: &[
            t("if $num == $n:\n    print(\"$message\")\n    for $counter, $thing in", "if $num == $n:\n    print(\"$message\")\n    for $counter in"),
        ],
    },
    Task {
        name: "var_if",
        description: "`:` after a comparison with `True`, a new line after an assignment of it",
        answers: &[(":\n", "\n"), (":", "\n")],
        open: false,
        templates: &[
            t("$(context)if $flag == True", "$(context)$flag = True"),
            t("def $func($flag):\n$(inner)    if $flag == True", "def $func($flag):\n$(inner)    $flag = True"),
        ],
        held_out: &[
            t("for $thing in $things:\n    if $flag == True", "for $thing in $things:\n    $flag = True"),
        ],
    },
];
