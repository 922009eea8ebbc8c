r"""Pairs (reference, answer) by class of notation: equal ones, and near misses that must not pass.

Written by hand for this project. A pair states what is right without looking at the question.
"""

from __future__ import annotations

from typing import NamedTuple


class Pairs(NamedTuple):
    """One class of notation."""

    equal: tuple[tuple[str, str], ...]
    unequal: tuple[tuple[str, str], ...]


PAIRS = {
    "integers": Pairs(
        (
            ("42", "042"), ("-7", "- 7"), ("1000000", "1,000,000"), ("1000000", "10^6"), ("0", "-0"),
            ("12", "twelve"), ("12345", "12\\,345"), ("12345", "12{,}345"), ("7", "+7"), ("5", "5."),
            ("1024", "2^10"), ("120", "5!"), ("\\text{six}", "6"), ("204", "\\mathbf{204}"), ("8", "**8**"),
            ("17", "\\text{17}"), ("3", "\\textbf{3.}"), ("3", "３"), ("-3", "–3"), ("21", "\\$21"),
            ("10", "\\,10\\,"), ("6", "\\{6\\}"),
        ),
        (
            ("42", "43"), ("42", "4 2 1"), ("-7", "7"), ("1000", "1,0000"), ("0", "1"), ("5", "5.5"),
            ("1024", "2^{11}"), ("6", "720!"), ("12", "1,2"), ("100", "1"), ("9", "seven"),
            ("123456789", "123456780"), ("5", "five hundred"),
        ),
    ),
    "decimals and fractions": Pairs(
        (
            ("0.5", ".5"), ("0.50", "1/2"), ("\\frac{3}{4}", "\\dfrac{3}{4}"), ("\\frac{3}{4}", "\\tfrac34"),
            ("\\frac{3}{4}", "3/4"), ("\\frac{3}{4}", "6/8"), ("\\frac{3}{4}", "0.75"),
            ("-\\frac{1}{2}", "\\frac{-1}{2}"), ("-\\frac{1}{2}", "\\frac{1}{-2}"), ("\\frac{2}{3}", "0.666667"),
            ("\\frac{22}{7}", "3.142857"), ("1.25", "\\frac{5}{4}"), ("\\frac{1}{3}", "0.\\overline{3}"),
            ("0.1\\overline{6}", "\\frac{1}{6}"), ("0.\\dot{3}", "1/3"), ("2\\frac{1}{4}", "9/4"),
            ("2\\frac{1}{4}", "2.25"), ("2 1/4", "\\frac{9}{4}"), ("-1\\frac{1}{2}", "-1.5"), ("½", "0.5"),
            ("1½", "3/2"), ("\\frac{1}{2}", "{1\\over2}"), ("\\frac{9}{4}", "\\left(\\frac{3}{2}\\right)^2"),
            ("0.123", "123/1000"), ("2.50", "2.5"),
        ),
        (
            ("0.5", "0.05"), ("1/3", "0.3"), ("1/3", "0.34"), ("2/3", "0.67"), ("\\frac{3}{4}", "\\frac{4}{3}"),
            ("2\\frac{1}{4}", "\\frac{1}{2}"), ("-1\\frac{1}{2}", "-0.5"), ("3.14", "3.15"), ("3.14", "3.141"),
            ("0.\\overline{3}", "0.3"), ("0.\\overline{12}", "0.12"), ("1.25", "1.24"), ("0.001", "0.0011"),
            ("\\frac{22}{7}", "\\pi"), ("\\frac{12}{5}", "1\\frac{2}{5}"), ("1.0001", "1"),
        ),
    ),
    "percentages": Pairs(
        (
            ("25\\%", "25%"), ("25\\%", "25"), ("25\\%", "0.25"), ("0.25", "25\\%"), ("12.5\\%", "\\frac{1}{8}"),
            ("25", "25\\%"), ("25\\%", "25 percent"), ("33\\frac{1}{3}\\%", "\\frac{100}{3}\\%"),
        ),
        (
            ("25\\%", "2.5\\%"), ("25\\%", "0.025"), ("0.25", "0.25\\%"), ("25\\%", "2500"), ("25", "0.25"),
            ("150\\%", "15"), ("5\\%", "6\\%"),
        ),
    ),
    "units and currency": Pairs(
        (
            ("15", "15 cm"), ("15\\text{ cubic feet per minute}", "15"), ("7", "7 \\text{ boxes of ten pens}"),
            ("15\\text{ cm}", "15"), ("15\\text{ cm}", "15\\,\\mathrm{cm}"), ("15 cm", "15 centimeters"),
            ("36\\pi", "36\\pi \\text{ cm}^2"), ("\\$18.90", "18.90"), ("\\$18.90", "18.9 dollars"),
            ("18", "\\$18.00"), ("24\\text{ square feet}", "24 ft^2"), ("5\\sqrt{2}\\text{ m}", "5\\sqrt{2}"),
            ("90^\\circ", "90°"), ("90^\\circ", "90 degrees"), ("90", "90^{\\circ}"), ("\\text{3 hours}", "3 h"),
            ("70", "€70"), ("20", "20 \\text{ students}"), ("12\\text{ m/s}", "12 m/s"), ("6", "6 \\text{ ways}"),
            ("48", "48 mph"), ("60 minutes", "60 min"), ("3 \\text{ units}", "3"), ("100", "100 \\text{ cm}^3"),
            ("£5", "5"), ("45^\\circ", "45^\\circ \\text{C}"), ("30", "30^{\\text{th}}"), ("2^{nd}", "2"),
        ),
        (
            ("15 cm", "15 m"), ("15\\text{ cubic feet per minute}", "16"), ("15 cm", "16 cm"),
            ("15\\text{ cm}", "15\\text{ cm}^2"), ("\\$18.90", "€18.90"), ("3 \\text{ hours}", "3 \\text{ minutes}"),
            ("90^\\circ", "9^\\circ"), ("20 \\text{ kg}", "20 \\text{ g}"),
            ("5\\sqrt{2}\\text{ m}", "5\\sqrt{2}\\text{ km}"), ("60 mph", "60 mm"), ("\\$5", "5 \\text{ cents}"),
        ),
    ),
    "scientific notation": Pairs(
        (
            ("1.5\\times10^{3}", "1500"), ("1.5e3", "1.5 \\cdot 10^3"), ("6.02\\times 10^{23}", "6.02e23"),
            ("2\\times10^{-5}", "0.00002"), ("3 x 10^8", "3\\times10^8"), ("10^{-3}", "0.001"), ("1.2×10⁴", "12000"),
            ("4.5 \\times 10^{33} \\text{ erg}", "4.5e33"), ("1E6", "1000000"),
        ),
        (
            ("1.5\\times10^{3}", "1.5\\times10^{4}"), ("2\\times10^{-5}", "2\\times10^{5}"), ("6.02e23", "6.03e23"),
            ("1e-8", "1e-9"), ("3\\times 10^8", "3\\times 108"), ("10^{-12}", "0"),
        ),
    ),
    "intervals": Pairs(
        (
            ("(2,5)", "2<x<5"), ("|x|<3", "(-3,3)"), ("|x| \\ge 2", "x \\le -2 \\text{ or } x \\ge 2"),
            ("0<f(x)<1", "(0,1)"), ("[2,5)", "2 \\le x < 5"), ("(-\\infty,3]", "x \\le 3"), ("(3,\\infty)", "x>3"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "x<-1 \\text{ or } x>1"), ("(1,\\infty)", "(1,+\\infty)"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "(1,\\infty)\\cup(-\\infty,-1)"), ("[0,1]", "x\\in[0,1]"),
            ("\\left[-\\frac{1}{2},1\\right]", "[-0.5,1]"), ("(-\\infty,1)\\cup(1,\\infty)", "x \\ne 1"),
            ("(-\\infty,1)\\cup(1,\\infty)", "\\mathbb{R} \\setminus \\{1\\}"),
            ("(-\\infty,\\infty)", "\\mathbb{R}"), ("(-\\infty,\\infty)", "\\text{all real numbers}"),
            ("[-2,2]", "\\{x \\mid -2 \\le x \\le 2\\}"), ("(0,1)\\cup(1,2]", "(0, 1) ∪ (1, 2]"),
            ("x\\geq 4", "[4,\\infty)"), ("5 > x > 2", "(2,5)"), ("(-3,3)", "x > -3 \\text{ and } x < 3"),
            ("(-\\infty, 2) \\cup \\{5\\}", "\\{5\\} \\cup (-\\infty, 2)"),
            ("[\\sqrt{2}, 2\\sqrt{2}]", "[\\sqrt{2}, \\sqrt{8}]"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "(-∞,-1)U(1,∞)"), ("(0,9)", "(0, 9)"),
        ),
        (
            ("(2,5)", "[2,5]"), ("|x|<3", "x<3"), ("|x|>2", "(2,\\infty)"), ("(2,5)", "(2,5]"), ("(2,5)", "(5,2)"),
            ("[2,5)", "2 < x < 5"), ("x \\le 3", "x < 3"), ("(-\\infty,3]", "[3,\\infty)"), ("(3,\\infty)", "3"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "(-1,1)"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "(-\\infty,-1]\\cup[1,\\infty)"), ("x \\ne 1", "x \\ne -1"),
            ("(-\\infty,1)\\cup(1,\\infty)", "\\mathbb{R}"), ("(0,1)\\cup(1,2]", "(0,2]"), ("x > 5", "5"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "(-\\infty,-1)"), ("[0,1]", "[0,1)"), ("x>2", "y<2"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "-1 < x < 1"),
        ),
    ),
    "sets and tuples": Pairs(
        (
            ("\\{1,2,3\\}", "\\{3,2,1\\}"), ("(1,2)", "\\left(1, 2\\right)"), ("1,2,3", "1, 2 \\text{ and } 3"),
            ("\\{1,2\\}", "1, 2"), ("(3,-4)", "(3, −4)"), ("\\{-1,1\\}", "\\pm 1"), ("(0.5,2)", "(\\frac12, 2)"),
            ("\\{\\frac{1}{2}, 2\\}", "\\left\\{2, 0.5\\right\\}"), ("(1,2),(3,4)", "(3,4),(1,2)"), ("\\{5\\}", "5"),
            ("(x,y)=(1,2)", "(1,2)"), ("(1,2)", "x=1, y=2"), ("(1,2)", "x=1 \\text{ and } y=2"),
            ("2, 3, 5", "2,3,5"), ("\\{(1,2)\\}", "(1,2)"), ("(2,\\frac{\\pi}{2})", "(2, \\pi/2)"), ("3, 7", "7; 3"),
            ("1, 5", "1 or 5"), ("\\emptyset", "\\{\\}"), ("\\emptyset", "\\text{no solution}"),
            ("(1, 2, 3)", "\\langle 1, 2, 3 \\rangle"), ("x=1, x=4", "1, 4"), ("x=1, x=4", "x \\in \\{1, 4\\}"),
            ("(6\\text{ cm}, 8\\text{ cm})", "(6,8)"), ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
            ("\\{1, 2, \\ldots, 10\\}", "\\{1, 2, \\dots, 10\\}"),
        ),
        (
            ("\\{1,2,3\\}", "\\{1,2\\}"), ("\\{1,2,3\\}", "\\{1,2,4\\}"), ("(1,2)", "(1,2,3)"), ("(1,2)", "(1,-2)"),
            ("1,2", "2"), ("(1,2),(3,4)", "(1,2),(4,3)"), ("(1,2),(3,4)", "(1,3),(2,4)"), ("\\{1,2\\}", "12"),
            ("\\pm 1", "1"), ("\\pm 1", "-1"), ("1, 2, 2", "1, 1, 3"), ("(x,y)=(1,2)", "(2,1)"), ("5, 7", "57"),
            ("\\emptyset", "0"), ("\\{0\\}", "\\emptyset"), ("1 or 5", "1 or 6"),
            ("(1,2)", "\\langle 2, 1 \\rangle"), ("3", "3, 4"), ("x=1, x=4", "x=1"), ("(3,4)", "3/4"),
            ("(1,3)", "1:3"),
        ),
    ),
    "matrices and vectors": Pairs(
        (
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}"),
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "[[1,2],[3,4]]"),
            ("\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}", "\\begin{pmatrix} 0.5 \\\\ 3 \\end{pmatrix}"),
            ("\\begin{pmatrix} 1 \\\\ 2 \\\\ 3 \\end{pmatrix}", "(1,2,3)"),
            ("\\begin{pmatrix} 1 \\\\ 2 \\\\ 3 \\end{pmatrix}", "<1,2,3>"),
            ("\\begin{pmatrix} 2 & 4 \\end{pmatrix}", "2\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
            ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}^T"),
            (
                "\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}",
                "\\left[\\begin{array}{cc} 1 & 0 \\\\ 0 & 1 \\end{array}\\right]",
            ),
            ("\\begin{pmatrix} x+1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1+x \\\\ 2 \\end{pmatrix}"),
            ("\\begin{pmatrix}-1\\\\0\\end{pmatrix}", "\\begin{pmatrix} -1 \\\\[2mm] 0 \\end{pmatrix}"),
        ),
        (
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}"),
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
            ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "(1,2,3,4)"),
            ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(2,1)"), ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "3"),
            ("\\begin{pmatrix} 0 & 1 \\\\ 1 & 0 \\end{pmatrix}", "\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}"),
            ("\\begin{pmatrix} 2 & 4 \\end{pmatrix}", "2\\begin{pmatrix} 2 & 4 \\end{pmatrix}"),
        ),
    ),
    "equations": Pairs(
        (
            ("x=5", "5"), ("5", "x=5"), ("x=5", "5=x"), ("y=2x+3", "y=3+2x"), ("y=2x+3", "2x-y+3=0"),
            ("x+y=5", "y=5-x"), ("x^2+y^2=25", "y^2+x^2=25"), ("x^2+y^2=25", "x^2+y^2-25=0"), ("2x+4y=6", "x+2y=3"),
            ("f(x)=2x+1", "2x+1"), ("f(x)=2x+1", "y=2x+1"), ("xy=1", "y=\\frac{1}{x}"),
            ("\\frac{x^2}{4}+\\frac{y^2}{9}=1", "9x^2+4y^2=36"), ("AB=4", "4"), ("|AB|=\\sqrt{5}", "\\sqrt{5}"),
            ("\\angle ABC = 30^\\circ", "30^\\circ"), ("S_{ABC}=12", "12"), ("2.5", "\\frac{V_o}{V_i}=2.5"),
            ("x=\\frac{1}{2}", "x = 0.5"), ("12", "3 \\cdot 4 = 12"), ("k=3", "k = 3."),
            ("(x-1)^2+(y+2)^2=9", "x^2+y^2-2x+4y-4=0"), ("5", "n = 5"), ("\\frac{dy}{dx}=3y", "\\frac{dy}{dx}-3y=0"),
            ("a_n=2n+1", "2n+1"), ("f(x)=x^2", "f(x)=x \\cdot x"),
        ),
        (
            ("x=5", "x=-5"), ("x=5", "y=6"), ("y=2x+3", "y=2x-3"), ("y=2x+3", "x=2y+3"), ("x^2+y^2=25", "x^2+y^2=5"),
            ("x^2+y^2=25", "25"), ("xy=1", "y=x"), ("x+y=5", "x-y=5"), ("f(x)=2x+1", "f(x)=2x"), ("x=1", "x^2=1"),
            ("\\frac{x^2}{4}+\\frac{y^2}{9}=1", "\\frac{x^2}{9}+\\frac{y^2}{4}=1"), ("y=x^2", "x=y^2"),
            ("x+y=5", "5"), ("\\frac{dy}{dx}=3y", "\\frac{dy}{dx}=3x"), ("a+b=c", "c"), ("2x+4y=6", "x+2y=6"),
            ("y = 2x", "2"),
        ),
    ),
    "inequalities": Pairs(
        (
            ("x>3", "3<x"), ("2x>6", "x>3"), ("x \\le 2", "x\\leqslant 2"), ("a>b", "b<a"),
            ("-2\\le x\\le 2", "2 \\ge x \\ge -2"), ("x+y<3", "3 > x+y"), ("k > \\frac{1}{2}", "k > 0.5"),
            ("x<-2 \\text{ or } x>2", "x>2 \\text{ or } x<-2"), ("m \\neq 0", "m \\ne 0"), ("-x<2", "x>-2"),
        ),
        (
            ("x>3", "x<3"), ("x>3", "x \\ge 3"), ("2x>6", "x>6"), ("a>b", "a<b"), ("-2\\le x\\le 2", "-2 < x < 2"),
            ("-x<2", "x<-2"), ("x+y<3", "x+y>3"), ("x \\ne 0", "x = 0"), ("k>1", "1"),
        ),
    ),
    "polynomials and expressions": Pairs(
        (
            ("x^2+2x+1", "(x+1)^2"), ("x^2-1", "(x-1)(x+1)"), ("2x^2y", "2yx^2"), ("a^2-b^2", "(a-b)(a+b)"),
            ("\\frac{x+1}{2}", "\\frac{x}{2}+\\frac{1}{2}"), ("x^3+3x^2+3x+1", "(1+x)^3"), ("3x-2", "-2+3x"),
            ("\\frac{1}{x+1}", "(x+1)^{-1}"), ("\\frac{n(n+1)}{2}", "\\binom{n+1}{2}"), ("2^{n+1}", "2\\cdot 2^n"),
            ("x^2+2x+1", "x**2 + 2*x + 1"), ("4x", "x+x+x+x"), ("\\frac{a}{b}", "a/b"), ("ab+ac", "a(b+c)"),
            ("x^{1/2}", "\\sqrt{x}"), ("e^{2x}", "(e^x)^2"), ("2\\pi r", "2r\\pi"), ("\\lambda x", "x\\lambda"),
            ("\\omega t", "\\omegat"), ("C_1 e^{x}", "C_{1}e^x"), ("\\frac{1}{2}mv^2", "\\frac{mv^2}{2}"),
            ("n!", "n(n-1)!"), ("-x+1", "1-x"), ("\\frac{2}{3}x", "\\frac{2x}{3}"), ("0.25x", "\\frac{x}{4}"),
            ("(-1)^n", "\\cos(n\\pi)"), ("x^{10}", "x^{5}\\cdot x^{5}"), ("|x-1|", "|1-x|"),
            ("\\frac{x^2-1}{x-1}", "x+1"), ("f(x+1)", "f(1+x)"),
        ),
        (
            ("x^2+2x+1", "(x-1)^2"), ("x^2+2x+1", "x^2+2x"), ("x^2-1", "(x-1)^2"), ("2x^2y", "2xy^2"),
            ("3x-2", "2-3x"), ("\\frac{x+1}{2}", "x+\\frac{1}{2}"), ("2^{n+1}", "2^n+1"), ("x", "y"), ("x^2", "x^3"),
            ("e^{2x}", "e^{x^2}"), ("\\frac{a}{b}", "\\frac{b}{a}"), ("n!", "(n-1)!"), ("x_1", "x_2"),
            ("2\\pi r", "\\pi r^2"), ("|x-1|", "x-1"), ("x^{10}", "x^10+1"), ("\\sqrt{x^2}", "x"), ("(-1)^n", "1"),
            ("\\frac{1}{x+1}", "\\frac{1}{x}+1"), ("2x", "2"), ("\\frac{n(n+1)}{2}", "\\frac{n(n-1)}{2}"),
            ("f(2x)", "2f(x)"), ("a^{b}", "b^{a}"), ("C_1", "C_2"),
        ),
    ),
    "roots": Pairs(
        (
            ("2\\sqrt{3}", "\\sqrt{12}"), ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"),
            ("\\sqrt{3}/2", "sqrt(3)/2"), ("\\sqrt{2}+\\sqrt{3}", "\\sqrt{5+2\\sqrt{6}}"),
            ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"), ("2^{1/3}", "\\sqrt[3]{2}"),
            ("\\frac{1}{\\sqrt{5}-2}", "\\sqrt{5}+2"), ("\\sqrt{3}", "√3"), ("3\\sqrt2", "\\sqrt{18}"),
            ("\\sqrt{2}", "1.41421356"), ("\\sqrt{50}", "5 \\sqrt 2"), ("2\\sqrt{3}", "2√3"), ("\\sqrt{16}", "4"),
            ("\\sqrt[3]{-8}", "-2"), ("3^{1.5}", "3\\sqrt{3}"),
            ("\\frac{-1+\\sqrt{5}}{2}", "\\frac{\\sqrt{5}-1}{2}"), ("1 + sqrt(2)", "\\sqrt{2}+1"),
        ),
        (
            ("2\\sqrt{3}", "\\sqrt{6}"), ("2\\sqrt{3}", "3\\sqrt{2}"), ("\\sqrt{2}", "1.41"),
            ("\\sqrt{2}", "-\\sqrt{2}"), ("\\sqrt{2}", "\\pm\\sqrt{2}"), ("\\sqrt[3]{2}", "\\sqrt{2}"),
            ("\\sqrt{2}+\\sqrt{3}", "\\sqrt{5}"), ("\\sqrt{2}", "1.4143"),
            ("\\frac{-1+\\sqrt{5}}{2}", "\\frac{1+\\sqrt{5}}{2}"), ("\\sqrt{3}/2", "\\sqrt{3/2}"),
            ("2^{1/3}", "2/3"),
        ),
    ),
    "trigonometry and logarithms": Pairs(
        (
            ("\\sin 2x", "2\\sin x\\cos x"), ("1", "\\sin^2 x+\\cos^2 x"), ("\\tan x", "\\frac{\\sin x}{\\cos x}"),
            ("\\cos 60^\\circ", "1/2"), ("\\cos 2\\theta", "1-2\\sin^2\\theta"), ("\\sin^{-1} x", "\\arcsin x"),
            ("\\frac{\\pi}{6}", "30^\\circ"), ("\\ln 8", "3\\ln 2"), ("\\log_2 8", "3"), ("\\log_{10} 1000", "3"),
            ("\\ln(ab)", "\\ln a+\\ln b"), ("\\log 100", "2"), ("\\frac{\\ln 3}{\\ln 2}", "\\log_2 3"),
            ("\\log_{\\frac12} 3", "-\\log_2 3"), ("\\sec x", "\\frac{1}{\\cos x}"), ("\\sin(x+\\pi)", "-\\sin x"),
            ("\\arctan 1", "\\frac{\\pi}{4}"), ("e^{\\ln 5}", "5"), ("\\cosh x", "\\frac{e^x+e^{-x}}{2}"),
            ("\\sin x\\cos y", "\\cos y \\sin x"), ("\\cost", "\\cos t"),
            ("\\frac{\\pi}{4}+k\\pi, k\\in\\mathbb{Z}", "k\\pi+\\frac{\\pi}{4}"),
            ("\\frac{\\pi}{4}+k\\pi, k\\in\\mathbb{Z}", "\\frac{\\pi}{4}+n\\pi, n \\in \\mathbb{Z}"),
            ("ln(2)", "\\ln 2"), ("3.1416", "\\pi"),
        ),
        (
            ("\\sin 2x", "2\\sin x"), ("\\sin^2 x", "\\sin x^2"), ("\\tan x", "\\cot x"), ("\\ln 8", "2\\ln 3"),
            ("\\log_2 8", "2"), ("\\ln(ab)", "\\ln a\\ln b"), ("\\frac{\\pi}{6}", "\\frac{\\pi}{3}"),
            ("\\frac{\\pi}{6}", "60^\\circ"), ("\\sin x", "\\cos x"),
            ("\\frac{\\pi}{4}+k\\pi", "\\frac{\\pi}{4}+2k\\pi"), ("\\cos 2\\theta", "2\\cos\\theta"),
            ("\\pi", "3.14"), ("\\log_2 3", "\\log_3 2"), ("\\sin^{-1} x", "\\frac{1}{\\sin x}"), ("\\pi", "3.1417"),
            ("\\ln 2", "\\log_2 e"),
        ),
    ),
    "complex numbers": Pairs(
        (
            ("3+4i", "4i+3"), ("i", "\\sqrt{-1}"), ("\\frac{1}{2}+\\frac{\\sqrt{3}}{2}i", "\\frac{1+i\\sqrt{3}}{2}"),
            ("e^{i\\pi/2}", "i"), ("5-12i", "(3-2i)^2"), ("\\frac{1}{1+i}", "\\frac{1-i}{2}"),
            ("2e^{i\\pi/3}", "1+\\sqrt{3}i"), ("-i", "\\frac{1}{i}"), ("3 + 4I", "3+4i"),
            ("2\\left(\\cos\\frac{\\pi}{3}+i\\sin\\frac{\\pi}{3}\\right)", "1+i\\sqrt{3}"),
            ("1\\pm 2i", "1+2i, 1-2i"), ("3+4i", "3+4\\mathrm{i}"),
        ),
        (
            ("3+4i", "3-4i"), ("3+4i", "4+3i"), ("i", "1"), ("i", "-i"), ("3+4i", "5"), ("1\\pm 2i", "1+2i"),
            ("2e^{i\\pi/3}", "2e^{i\\pi/6}"), ("3+4i", "7i"), ("5-12i", "5+12i"),
        ),
    ),
    "plus or minus and several answers": Pairs(
        (
            ("\\pm\\sqrt{3}", "\\sqrt{3}, -\\sqrt{3}"), ("1\\pm\\sqrt{2}", "1+\\sqrt{2}, 1-\\sqrt{2}"),
            ("\\frac{1\\pm\\sqrt{5}}{2}", "\\frac{1-\\sqrt{5}}{2}, \\frac{1+\\sqrt{5}}{2}"), ("x=\\pm 2", "2, -2"),
            ("x=2 \\text{ or } x=-2", "x=\\pm 2"), ("\\pm 3", "±3"), ("2, -2", "+2 and -2"),
            ("-\\frac{1}{2}, 3", "x=3 or x=-1/2"),
        ),
        (
            ("1\\pm\\sqrt{2}", "1+\\sqrt{2}"), ("\\pm 3", "\\pm 2"),
            ("\\frac{1\\pm\\sqrt{5}}{2}", "\\frac{-1\\pm\\sqrt{5}}{2}"), ("x=\\pm 2", "2"), ("2, -2", "2, 2"),
            ("x=2 \\text{ or } x=-3", "x=-2 \\text{ or } x=3"),
        ),
    ),
    "text": Pairs(
        (
            ("\\text{yes}", "Yes"), ("Yes", "\\textbf{Yes}"), ("\\text{Monday}", "monday"),
            ("\\text{even}", "Even."), ("\\text{east}", "East"), ("\\text{no solution}", "No solutions"),
            ("\\text{does not exist}", "DNE"), ("\\text{no real solutions}", "no solution"), ("\\text{(B)}", "B"),
            ("B", "\\boxed{B}"), ("(B)", "\\text{(B) } 12"), ("\\text{Evelyn}", "Evelyn"), ("\\text{True}", "true"),
            ("\\text{infinitely many}", "infinitely many solutions"), ("\\text{parabola}", "a parabola"),
            ("\\text{ellipse}", "\\mathrm{ellipse}"), ("\\text{ABD}", "ABD"), ("ABD", "A, B, D"),
            ("\\text{odd function}", "odd function"), ("\\infty", "infinity"),
        ),
        (
            ("\\text{yes}", "no"), ("\\text{Monday}", "Tuesday"), ("\\text{even}", "odd"), ("\\text{(B)}", "(C)"),
            ("\\text{no solution}", "infinitely many solutions"), ("\\text{Evelyn}", "Carla"), ("B", "B, C"),
            ("\\text{True}", "False"), ("\\text{parabola}", "hyperbola"), ("\\text{yes}", "5"), ("ABD", "ABC"),
            ("\\text{no solution}", "x=0"), ("5", "yes"), ("\\infty", "-\\infty"), ("B", "8"),
            ("\\text{listen}", "silent"),
        ),
    ),
    "times, dates, ratios": Pairs(
        (
            ("3:4", "6:8"), ("3:4", "3 : 4"), ("1:2:3", "2:4:6"), ("10:30", "10:30 \\text{ a.m.}"),
            ("2:05 \\text{ PM}", "2:05 p.m."), ("14:30", "2:30 PM"), ("20:34", "8:34 P.M."),
            ("3 \\text{ to } 4", "3:4"), ("March 5", "5 March"), ("\\text{March 5, 2020}", "5 March 2020"),
            ("2020-03-05", "March 5, 2020"), ("9:00", "09:00"), ("\\frac{3}{4}", "3:4"),
        ),
        (
            ("3:4", "4:3"), ("1:2:3", "1:2"), ("10:30", "10:31"), ("2:05 \\text{ PM}", "2:05 AM"),
            ("14:30", "2:30 AM"), ("March 5", "March 6"), ("12:30", "0.5"), ("1:20", "2:40"),
            ("March 5, 2020", "March 5, 2021"), ("\\frac{3}{4}", "4:3"),
        ),
    ),
    "bases, binomials, floors, modular": Pairs(
        (
            ("1011_2", "1011_{2}"), ("1011_2", "1011_{\\text{two}}"), ("4D_{16}", "4d_{16}"),
            ("\\binom{5}{2}", "10"), ("\\dbinom{n}{2}", "\\frac{n(n-1)}{2}"), ("{5 \\choose 2}", "10"),
            ("\\lfloor 3.7\\rfloor", "3"), ("\\left\\lceil\\frac{n}{2}\\right\\rceil", "\\lceil n/2 \\rceil"),
            ("3 \\pmod 7", "3"), ("3 \\pmod{7}", "x \\equiv 3 \\pmod{7}"), ("3 \\pmod 7", "10 \\pmod 7"),
            ("3 (mod 7)", "3 \\mod 7"), ("|-5|", "5"), ("5!", "120"), ("2^{10}", "1024"), ("2^{100}", "4^{50}"),
            ("10!/8!", "90"), ("2^{2019}", "2 \\cdot 2^{2018}"), ("\\frac{100!}{98!}", "9900"),
        ),
        (
            ("1011_2", "1011_3"), ("1011_2", "1010_2"), ("\\binom{5}{2}", "\\binom{5}{1}"),
            ("\\lfloor 3.7\\rfloor", "4"), ("3 \\pmod 7", "4 \\pmod 7"), ("3 \\pmod 7", "3 \\pmod 8"),
            ("3", "10 \\pmod 7"), ("2^{100}", "2^{101}"), ("2^{100}", "2^{100}+1"), ("5!", "5"),
            ("2^{2019}", "2^{2018}"),
            ("\\left\\lceil\\frac{n}{2}\\right\\rceil", "\\left\\lfloor\\frac{n}{2}\\right\\rfloor"),
            ("1011_2", "11"),
        ),
    ),
    "spelling of LaTeX": Pairs(
        (
            ("\\frac{1}{2}", "\\frac12"), ("\\frac{1}{2}", "\\frac 1 2"), ("\\frac{1}{2}", "$\\frac{1}{2}$"),
            ("\\frac{1}{2}", "\\(\\frac{1}{2}\\)"), ("\\frac{1}{2}", "\\displaystyle\\frac{1}{2}"),
            ("\\frac{1}{2}", "\\frac{1}{2}."), ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}"), ("5", "\\boxed{x=5}"),
            ("2\\times 3", "2 \\cdot 3"), ("x^{2}", "x^2"), ("x_{1}", "x_1"),
            ("\\left(1,2\\right)", "\\big(1,2\\big)"), ("\\mathrm{e}^x", "e^x"), ("\\ne", "\\neq"),
            ("a\\cdot b", "ab"), ("\\varnothing", "\\emptyset"), ("\\text{cm}", "cm"), ("3\\;000", "3000"),
            ("\\pi^{2}", "π²"), ("\\alpha+1", "α+1"), ("\\frac{\\pi}{2}", "\\pi/2"), ("x\\,y", "xy"),
            ("\\frac{1}{2}", "\\frac{1}{2}\\\\"), ("\\vec{v}+1", "\\mathbf{v}+1"), ("\\dfrac{5\\pi}{6}", "5π/6"),
            ("\\sqrt{2}", "\\sqrt{2}\\text{ units}"), ("1", "1 \\quad"),
        ),
        (
            ("\\frac{1}{2}", "\\frac21"), ("x^{2}", "x2"), ("x_{1}", "x^1"), ("\\frac{12}{5}", "\\frac125"),
            ("\\pi^{2}", "2\\pi"), ("xy", "x+y"), ("\\alpha", "\\beta"), ("\\mathbf{v}", "w"), ("2\\times 3", "23"),
        ),
    ),
    "magnitudes and words after a number": Pairs(
        (
            ("1000000", "1 million"), ("5 million", "5,000,000"), ("2 \\text{ dozen}", "24"),
            ("\\$2.5 billion", "2500000000"),
            ("4500000", "4.5 million people"), ("3", "3 times"), ("-5", "negative 5"), ("250{,}000", "250 thousand"),
        ),
        (
            ("5", "5 million"), ("\\$5 million", "\\$5"), ("\\$2.5 billion", "\\$2.5 million"), ("5\\%", "5 million"),
            ("3", "3 dozen"), ("5", "5 thousand"), ("5", "5 below zero"), ("3", "3 theta"), ("3", "3 factorial"),
            ("3", "3 \\text{ tenths}"), ("1", "1\\text{ million}"), ("3", "3 squared"), ("5", "5 bn"),
            ("5", "5 less than x"),
        ),
    ),
    "labels in brackets": Pairs(
        (
            ("(1)(3)", "(1), (3)"), ("(1)(3)", "(3)(1)"), ("(1)(3)", "1, 3"), ("①③", "①, ③"), ("(1) 5; (2) 6", "5; 6"),
            ("\\text{(a) } 5; \\text{(b) } 6", "5, 6"), ("(a) 5 (b) 6", "(a) 5, (b) 6"), ("(a)(b)", "ab"),
            ("(x+1)(2)", "2x+2"), ("(12)(2)", "24"), ("(a)x - (b)y", "ax-by"),
        ),
        (
            ("(1)(2)(3)", "(2)(3)"), ("(1)(2)(3)", "6"), ("(2)(3)", "6"), ("(a) 5 (b) 6", "(a) 6 (b) 5"),
            ("(1)(4)", "(2)(2)"),
            ("(i) 5 (ii) 6", "(i) 6 (ii) 5"), ("(1) 5 (2) 6", "(1) 6 (2) 5"), ("(a) 5 (b) 6", "30"), ("①②③", "②③"),
        ),
    ),
    "equations in one unknown": Pairs(
        (
            ("8", "m+n=8"), ("8", "f(3)=8"), ("5", "x = 5"), ("5", "5 = x"), ("8", "p(3)=8"),
            ("\\frac{1}{2}", "\\sin A = \\frac{1}{2}"),
            ("25", "a^2+b^2=25"), ("7", "3+4=7"), ("5", "|z| = 5"), ("5", "P(X = 2) = 5"),
        ),
        (
            ("9", "2x = 9"), ("9", "\\log x = 9"), ("9", "x - 3 = 9"), ("4", "x^2 = 4"), ("8", "2^x = 8"),
            ("8", "|x - 3| = 8"),
            ("12", "\\frac{x}{2} = 12"), ("9", "-x = 9"), ("9", "\\sqrt{x} = 9"),
        ),
    ),
    "conditions": Pairs(
        (
            ("2^n", "2^n \\text{ for all } n"), ("2^k, k \\in \\mathbb{N}", "2^k, k \\in \\mathbb{Z}^+"),
            ("2^k \\text{ for } k \\ge 1", "2^k \\text{ for } k > 0"),
            ("n\\pi, n \\in \\mathbb{Z}", "k\\pi, k \\in \\mathbb{Z}"),
            (
                "\\frac{n}{2} \\text{ if } n \\text{ is even}, \\frac{n-1}{2} \\text{ if } n \\text{ is odd}",
                "(n-1)/2 if n is odd, n/2 if n is even",
            ),
            ("n/2 if n even, (n-1)/2 otherwise", "n/2 if n even, (n-1)/2 if n odd"),
        ),
        (
            ("n/2 if n even, (n-1)/2 if n odd", "n/2"), ("n/2 if n even, 0 if n odd", "n/2 if n odd, 0 if n even"),
            ("2^n for even n", "2^n for odd n"), ("2^n \\text{ for even } n", "2^n \\text{ for odd } n"),
            ("2^k \\text{ for } k \\ge 1", "2^k \\text{ for } k \\ge 2"),
            ("2^k, k \\in \\mathbb{Z}", "2^k, k \\in \\mathbb{N}"),
            ("n\\pi, n \\in \\mathbb{Z}", "n\\pi, n \\in \\mathbb{Z}^+"),
            ("x = 5 \\text{ when } y = 2", "x = 5 \\text{ when } y = 3"),
            ("2^n \\text{ if } n \\text{ is even and } 0 \\text{ otherwise}", "2^n"),
            ("x > 2 \\text{ if } a > 0", "x > 2 \\text{ if } a < 0"),
        ),
    ),
    "units in parts and prefixes": Pairs(
        (
            ("5 \\text{ m/s}", "5 \\text{ meters per second}"), ("60 mph", "60 \\text{ miles per hour}"),
            ("5 \\text{ N}", "5 \\text{ kg m/s}^2"),
            ("5 \\mathrm{~g} / \\mathrm{cm}^3", "5 \\text{ g/cm}^3"), ("5 \\mathrm{~MeV}", "5 MeV"),
            ("20^\\circ C", "20^\\circ"),
            ("20 \\text{ students}", "20 \\text{ people}"), ("5 \\mathrm{~kJ} / \\mathrm{mol}", "5 kJ/mol"),
        ),
        (
            ("5 \\mathrm{~MeV}", "5 \\mathrm{~GeV}"), ("5 \\mathrm{~kJ}", "5 \\mathrm{~J}"),
            ("5 \\mathrm{~\\mu m}", "5 \\mathrm{~m}"),
            ("5 \\text{ mA}", "5 \\text{ A}"), ("5 \\text{ m/s}", "5 \\text{ ft/s}"),
            ("5 \\text{ km/s}", "5 \\text{ m/s}"),
            ("60 \\text{ miles per hour}", "60 \\text{ km per hour}"), ("5 \\mathrm{~cm}^{-1}", "5 \\mathrm{~cm}"),
            ("20^\\circ C", "20^\\circ F"), ("5 \\mathrm{~nm}", "5 \\mathrm{~\\mu m}"),
            ("5 \\text{ mL}", "5 \\text{ L}"),
            ("5 \\mathrm{~g} / \\mathrm{cm}^3", "5 \\mathrm{~kg} / \\mathrm{m}^3"),
        ),
    ),
    "capitals and the order of letters": Pairs(
        (
            ("x^2+C", "x^2+c"), ("\\text{Yes}", "yes"), ("Amy", "amy"), ("NO", "No"), ("abc+1", "cab+1"),
            ("T, F, T", "T, F, T"),
        ),
        (
            ("\\frac{GM}{r^2}", "\\frac{GM}{R^2}"), ("½mv²", "½Mv²"), ("m", "M"), ("V", "v"),
            ("\\frac{GM}{R}", "\\frac{Gm}{R}"),
            ("Amy", "May"), ("TTF", "TFT"), ("DAB", "BAD"), ("no", "on"), ("T, F, T", "T, T, F"), ("GM", "Gm"),
        ),
    ),
    "periods in brackets, ends of intervals, ratios": Pairs(
        (
            ("1/3", "0.(3)"), ("1/6", "0.1(6)"), ("1/3", "0.333..."), ("1/6", "0.1666\\ldots"),
            ("0.\\overline{3}", "0.333…"),
            ("3:4:5", "6:8:10"), ("-3, 2", "x_1 = 2, x_2 = -3"), ("[-2,2]", "[-2,0] \\cup [0,2]"),
            ("(2,\\infty)", "(2, inf)"),
            ("(0,1)\\cup(1,2)", "0<x<2, x \\ne 1"), ("(1,3)", "{1,3}"), ("1", "100\\%"),
        ),
        (
            ("0", "0.(3)"), ("3", "1.(3)"), ("18", "3.(6)"), ("1/3", "0.33"), ("(1,3]", "\\{1,3\\}"),
            ("x\\in[1,3)", "1,3"),
            ("[-2,2]", "\\{-2,2\\}"), ("\\{-2,2\\}", "(-2,2)"), ("x \\in (-1, 2]", "-1, 2"), ("1", "1\\%"),
            ("5", "1_{①}"),
            ("(-\\infty,-1)\\cup(1,\\infty)", "x<-1 \\text{ and } x>1"), ("(-3, 2)", "x_1 = 2, x_2 = -3"),
            ("0.\\overline{3}", "0.3..."),
        ),
    ),
    "answers with a lead or an option's letter": Pairs(
        (
            ("5", "\\textbf{(E)}\\ 5"), ("5", "(E)\\ 5"), ("5", "\\text{Answer: 5}"),
            ("5", "\\text{The answer is } 5"), ("-5", "(B) -5"),
            ("\\frac{1}{2}", "\\textbf{(A) }\\frac{1}{2}"), ("(E)", "\\textbf{(E)}\\ 5"),
        ),
        (
            ("5", "\\textbf{(E)}\\ 6"), ("5", "(C) + 5"), ("(D)", "\\textbf{(E)}\\ 5"), ("5", "\\text{Answer: 6}"),
            ("5", "(A) 5 (B) 6"),
        ),
    ),
    "functions of several arguments": Pairs(
        (
            ("\\max(a,b)", "\\frac{a+b+|a-b|}{2}"), ("\\min(a,b)", "\\min\\{b,a\\}"), ("\\max\\{3,5\\}", "5"),
            ("\\gcd(m,n)\\operatorname{lcm}(m,n)", "mn"), ("6", "gcd(12, 18)"), ("lcm(4, 6)", "12"),
            ("\\gcd(n,n+1)", "1"), ("f(x,y)=x+y", "x+y"), ("x^2+y^2", "P(x, y) = y^2+x^2"), ("0", "f(x,y)=0"),
            ("f(x,y)+f(y,x)", "f(y,x)+f(x,y)"), ("\\binom{10}{3}", "C(10,3)"), ("120", "C(10,3)"),
            ("F(x,y)^2+G(x,y)=1", "G(x,y)-1=-F(x,y)^2"), ("f(xy)=f(x)f(y)", "f(y)f(x)=f(xy)"),
        ),
        (
            ("\\max(a,b)", "a"), ("\\max(a,b)", "\\min(a,b)"), ("\\max\\{a,b\\}", "\\max\\{a,b,0\\}"),
            ("\\gcd(m,n)", "\\operatorname{lcm}(m,n)"), ("t=\\max\\{2q, q-1+2M\\}", "814"),
            ("\\max\\{1,2,3\\}", "\\{1,2,3\\}"),
            ("P(x,y)", "P(y,x)"), ("f(x,y)=x+y", "g(x,y)=x+y"), ("P(x,y)=x+y", "1"), ("(a,b)", "M(a,b)=0"),
            ("C(10,3)", "C(10,4)"), ("\\min(m,n)^{1/r}", "i"), ("f(xy)=f(x)f(y)", "f(x+y)=f(x)f(y)"),
            ("W(a,b)=k", "a_1a_3+a_2a_3=4"), ("f(x)=1", "f(5)f(1)=f(9)"), ("\\gcd(2, 100)", "\\gcd(2100, 1)"),
        ),
    ),
    "equations and inequalities that differ somewhere": Pairs(
        (
            ("x\\sin y=1", "x=\\csc y"), ("a_n=2a_{n-1}", "\\frac{a_n}{a_{n-1}}=2"), ("xy=Ce^x", "xy=ce^x"),
            ("\\frac{1}{x}+\\frac{1}{y}=\\frac{1}{z}", "z=\\frac{xy}{x+y}"), ("\\frac{x^2}{y^2}=1", "x^2=y^2"),
            ("m\\frac{dv}{dt}+bv=f", "\\frac{dv}{dt}=\\frac{f-bv}{m}"), ("xe^y>1", "1<xe^y"),
        ),
        (
            ("x\\sin y=1", "x=\\sec y"), ("\\frac{1}{x}+\\frac{1}{y}=\\frac{1}{z}", "z=\\frac{xy}{x-y}"),
            ("m\\frac{dv}{dt}+bv=f", "v=\\frac{f}{b}+Ce^{-\\frac{b}{m}t}"), ("x=y^2", "\\sqrt{x}=-y"),
            ("ml\\ddot{\\theta}-mg\\sin\\theta=f(t)\\cos\\theta", "\\ddot{\\theta}+\\frac{g}{l}\\sin\\theta=0"),
            ("C=\\frac{def}{de+df+ef}", "ef+df+de=ef+ed+df"), ("\\frac{x}{y}>1", "x<y"), ("a>b", "1+\\frac{3}{b}>1"),
            ("\\lambda\\ge e", "\\frac{1}{a}+\\frac{1}{b}-\\frac{\\lambda}{ab}\\le 3-\\lambda"),
            ("e^{x+y}=z", "x-y=\\ln z"),
        ),
    ),
    "words and sets beside mathematics": Pairs(
        (
            ("\\text{no solution}", "\\emptyset"), ("x>2", "x \\in (2,\\infty)"), ("x=1,200", "1200"),
            ("\\mathbb{R}", "\\text{all real numbers}"), ("f(x)=2x", "f(x)=2x \\quad \\forall x \\in \\mathbb{R}"),
            ("f(x,y)=0 \\forall x,y", "f(x,y)=0"), ("5", "P(A\\cap B)=5"), ("v_{\\parallel}", "v_\\parallel"),
        ),
        (
            ("3\\pm 2\\sqrt{2}", "\\text{No solution}"), ("x^2+1=0", "no real solutions"), ("x=1", "\\text{removed}"),
            ("1,3,5", "\\text{all even positive integers}"), ("(0,2),(0,-2)", "\\text{No integer solutions}"),
            ("(-\\infty,0)\\cup(1,\\infty)", "y"), ("A", "10,000\\ge 4x-50,000"), ("C", "3547<x\\le 4000"),
            ("2017^{98}", "at least 2017^{98}"), ("2017^{98}", "\\text{at least } 2017^{98}"), ("x+y=7", "x,y"),
            ("69", "B\\cup f(B)=X"), ("AB=BC", "AB\\parallel CD"), ("F(x,y)^2+G(x,y)^2=1", "x,y"),
            ("f(x)=2x \\forall x>0", "f(x)=2x \\forall x<0"), ("f(x)=2x", "f(x)=3x \\forall x \\in \\mathbb{R}"),
        ),
    ),
}  # fmt: skip
