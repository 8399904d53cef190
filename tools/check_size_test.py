#!/usr/bin/python3
"""check_size.py measures functions where they are, and the list of exceptions cannot rot."""

import pathlib
import tempfile
import unittest

import check_size

LONG = "  x += 1;\n" * 81


def names(text):
    return [name for name, _, _ in check_size.cc_functions(text)]


class CheckSize(unittest.TestCase):
    def problems(self, files, exceptions=""):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "tools").mkdir()
            (root / "tools/size_exceptions.txt").write_text(exceptions)
            for name, text in files.items():
                (root / name).write_text(text)
            return check_size.check(root, [pathlib.Path(name) for name in files])

    def test_a_long_function_is_named_with_its_line_and_length(self):
        self.assertEqual(self.problems({"a.cc": "\nint Long(int x) {\n" + LONG + "}\n"}),
                         ["a.cc:2: Long has 83 lines (at most 80)"])

    def test_a_method_in_a_class_in_a_namespace_is_found(self):
        text = "namespace a {\nclass B : public C<int> {\n public:\n  void Method() const {\n" + LONG + "  }\n};\n}\n"
        self.assertEqual(len(self.problems({"a.h": text})), 1)

    def test_a_long_table_is_no_function(self):
        self.assertEqual(self.problems({"a.cc": "const int kTable[] = {\n" + "  1,\n" * 100 + "};\n"}), [])

    def test_a_long_file_is_refused(self):
        self.assertEqual(len(self.problems({"a.sh": "true\n" * 801})), 1)
        self.assertEqual(self.problems({"a.sh": "true\n" * 800}), [])

    def test_a_long_python_function_is_refused(self):
        self.assertEqual(len(self.problems({"a.py": "def f(x):\n" + "    x += 1\n" * 81})), 1)

    def test_an_exception_needs_a_reason_and_a_use(self):
        text = "void Long() {\n" + LONG + "}\n"
        self.assertEqual(self.problems({"a.cc": text}, "a.cc Long: one table of cases\n"), [])
        self.assertEqual(len(self.problems({"a.cc": ""}, "a.cc Long: one table of cases\n")), 1)
        with self.assertRaises(SystemExit):
            self.problems({"a.cc": text}, "a.cc Long:\n")

    def test_what_starts_a_function(self):
        self.assertEqual(names("template <class T, class = X<T>>\nT F(T x) { return x; }"), ["F"])
        self.assertEqual(names("Foo::Foo(int a) : a_(a) { }\nFoo::~Foo() { }"), ["Foo", "~Foo"])
        self.assertEqual(names("TEST(Suite, SaysWhat) { }"), ["Suite.SaysWhat"])
        self.assertEqual(names("struct alignas(64) S { int a; };"), [])
        self.assertEqual(names("enum class E : int { kA, kB };"), [])
        self.assertEqual(names("auto f = [](int x) { return x; };"), ["f"])

    def test_braces_in_comments_strings_and_macros_do_not_count(self):
        text = 'void F() {\n  // }\n  Use("}", \'}\', R"x(})x");\n#define M {\n}\nvoid G() {}\n'
        self.assertEqual(names(text), ["F", "G"])

    def test_digit_separators_are_no_quotes(self):
        self.assertEqual(names("void F() { int x = 1'000; }\nvoid G() { int y = 2'000'000; }"), ["F", "G"])


if __name__ == "__main__":
    unittest.main()
