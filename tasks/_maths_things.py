"""Maths scenarios about things that fill and move: a tank, a journey."""

from __future__ import annotations

from random import Random

from tasks._maths_book import Book, number


def tank(rng: Random, book: Book) -> None:
    holds, start = number(rng.choice([800, 1000])), number(rng.choice([480, 520, 540]))
    small, big = number(rng.choice([6, 8])), number(rng.choice([14, 15, 16]))
    cans, rain, leak = (number(rng.choice(r)) for r in ((7, 9, 11), (22, 25, 28), (3, 5)))
    hours, flow = number(rng.choice([4, 6])), number(rng.choice([12, 13, 17]))
    level = book.open(
        start - cans * big,
        f"In our allotment stands an old wine tank that collects the rain from the roof. It holds "
        f"{holds} litres, and when I opened the lid this morning there were {start} litres in it. "
        f"I water with two cans: the green one takes {small} litres, the zinc one {big}. Since "
        f"breakfast I have carried {cans} full zinc cans to the beans, and my back knows it. I "
        f"would like you to keep count of the water today. How many litres are in the tank now?",
        f"I look after the pond behind the kindergarten while the caretaker is on holiday. Filled "
        f"to the rim it has {holds} litres; his note says that it stood at {start} litres on "
        f"Friday evening. In the shed I found a bucket for {big} litres and a bowl for {small}. "
        f"The goldfish need fresh water, so as a first step I took out {cans} buckets and poured "
        f"them on the lawn, to the joy of the children. How many litres are left in the pond?",
    )
    level = book.open(
        level + hours * (rain - leak),
        f"Now it rains, and how! From the marks on the wall I can tell that {rain} litres run "
        f"into the tank every hour. On the other hand the tap at the bottom does not close "
        f"properly any more, and I measured it with a jug: {leak} litres are lost each hour. The "
        f"radio says that the rain will go on just like this for {hours} hours, so I sit in the "
        f"hut and drink tea while both things happen. What will the level be after that time?",
        f"Next I laid the hose into it. The hose is thin and gives {rain} litres an hour, as I "
        f"found out with my watch. But while it was running I noticed a wet patch by the stones: "
        f"somewhere in the foil there must be a hole, and judging by the ruler {leak} litres an "
        f"hour get lost through it. I let the hose run for {hours} hours, with the hole doing its "
        f"work, and then turned it off. How much water was there at the end?",
    )
    book.require(level.value <= holds.value)
    level = book.change(
        level,
        level - small * 3,
        "I take 3 green cans for the lettuce. Level?",
        "3 bowls for the hamster house. How much is left?",
    )
    book.side(
        holds - level,
        "How much more would fit in?",
        "How many litres are missing up to the rim?",
    )
    level = book.change(
        level,
        level + rain * 2,
        "Tap mended, and 2 more hours of the same rain. Level?",
        "Hole sealed. The hose runs 2 hours again. And now?",
    )
    book.require(level.value <= holds.value)
    level = book.change(
        level,
        level - small - big,
        "One can of each for the roses. What remains?",
        "One bucket and one bowl for the sandpit. Litres left?",
    )
    book.side(
        level * 100 / holds,
        "What percentage of the whole tank is that?",
        "How full is it then, in percent?",
    )
    level = book.change(
        level,
        level + flow * 5,
        f"The neighbour pumps in {flow} litres a minute for 5 minutes. Level?",
        f"The fire brigade gives us {flow} litres a minute, for 5 minutes. So?",
    )
    book.require(level.value <= holds.value)
    level = book.change(
        level,
        level / 2,
        "Her cows drink half of it. What do I have?",
        "I drain half, for the autumn cleaning. How much stays?",
    )
    book.side(
        start - level,
        "How much less is that than this morning?",
        "How far is that below the caretaker's note?",
    )
    level = book.change(
        level,
        level - big * 2,
        "2 more zinc cans. Level?",
        "2 more buckets out. What is left?",
    )
    level = book.change(
        level,
        level * (number(100) - 10) / 100,
        "In the heat 10 percent of it evaporates. How much is left?",
        "The dog splashed out 10 percent of that. And now?",
    )
    book.side(
        big - small,
        "By how much is the zinc can larger than the other?",
        "How much more does the bucket take than the bowl?",
    )
    book.talk(
        "What should I repair first? One sentence, please.",
        "Write one sentence for the caretaker about the pond.",
    )


def journey(rng: Random, book: Book) -> None:
    way, fast, slow = (number(rng.choice(r)) for r in ((260, 280, 310), (18, 20, 24), (11, 13, 14)))
    hours, after = number(rng.choice([3, 4])), number(rng.choice([2, 3]))
    wrong, food = number(rng.choice([6, 7, 9])), number(rng.choice([5, 10, 15]))
    closed, bit = number(rng.choice([16, 17, 19])), number(rng.choice([8, 12]))
    left = book.open(
        way - fast * hours,
        f"My brother and I ride our bicycles to the coast, {way} kilometres by the river path, "
        f"with a tent and far too many socks. On the flat we make {fast} kilometres an hour, and "
        f"we eat {food} bananas per 100 kilometres, I have kept a list since last summer. We left "
        f"at six this morning, rode {hours} hours at that speed without a stop, and now we sit "
        f"under a poplar and argue about the map. How many kilometres are still ahead of us?",
        f"I steer a narrow boat with a very old engine from my uncle's yard to the sea lock. The "
        f"canal is {way} kilometres long from here to there. In still water she does {fast} "
        f"kilometres an hour, which the neighbours call reckless, and she burns {food} litres of "
        f"diesel per 100 kilometres. Today I cast off at dawn and kept that speed for {hours} "
        f"hours; then I moored for soup. How many kilometres of the canal do I have left?",
    )
    left = book.open(
        left - slow * after,
        f"After lunch the wind turned against us, and we only did {slow} kilometres an hour; that "
        f"went on for {after} hours. Then my brother, who can read neither maps nor signs, led us "
        f"into a side valley: {wrong} kilometres in, a farm, an angry goose, and the same {wrong} "
        f"kilometres back to the path. So the detour tired us without bringing us any closer. How "
        f"many kilometres along the path remain until the coast?",
        f"In the afternoon there was weed in the water, and we crawled at {slow} kilometres an "
        f"hour, for {after} hours on end. Near the second bridge I took the wrong arm, which ends "
        f"at a brickworks after {wrong} kilometres; I had to turn there and come the {wrong} "
        f"kilometres back, so that it was a nice excursion but no progress. How many kilometres "
        f"of my canal are still to go this evening?",
    )
    book.side(
        way - left,
        "How far along the path have we come?",
        "How much of the canal lies behind me?",
    )
    left = book.change(
        left,
        left - slow,
        "One more hour against the wind. What remains?",
        "An hour more through the weed. How far now?",
    )
    book.side(
        left / fast,
        "How many hours would the rest take at our first speed?",
        "At the speed of this morning, how many hours is that?",
    )
    left = book.change(
        left,
        left + closed,
        f"A bridge is closed, which makes {closed} kilometres more. And now?",
        f"I must go round by the old lock, {closed} kilometres extra. Rest?",
    )
    left = book.change(
        left,
        left - fast * 2,
        "2 hours on the flat, as at the beginning. Rest?",
        "Clear water: 2 hours as fast as this morning. What remains?",
    )
    book.side(
        left * food / 100,
        "How many bananas does the rest need?",
        "How many litres of diesel will that take?",
    )
    left = book.change(
        left,
        left / 2,
        "A farmer drives us half of it. How much is left?",
        "A tug pulls me for half of that. Remaining?",
    )
    book.side(
        wrong * 2,
        "How many kilometres did my brother's valley cost, in and out?",
        "How long was my excursion, there and back?",
    )
    left = book.change(
        left,
        left - bit,
        f"Before dark we do {bit} kilometres more. And then?",
        f"Another {bit} kilometres by moonlight. What is left?",
    )
    book.side(
        fast - slow,
        "By how much were we slower per hour in the wind?",
        "How much speed did the weed cost me per hour?",
    )
    left = book.change(
        left,
        left + wrong,
        "The camp lies as far past the end as that farm off the path. Rest?",
        "The berth is as far past the lock as that brickworks. Rest?",
    )
    book.talk(
        "What do I write to our mother? One sentence.",
        "Put today into one line for the log.",
    )
