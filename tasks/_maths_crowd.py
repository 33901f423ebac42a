"""Maths scenarios about many people: a sale for a good cause, a recipe for a crowd."""

from __future__ import annotations

from random import Random

from tasks._maths_book import Book, number


def sale(rng: Random, book: Book) -> None:
    adults, children = number(rng.choice([42, 46, 54])), number(rng.choice([28, 31, 33]))
    adult, child = number(rng.choice(["6.5", "7", "7.5"])), number(rng.choice(["3", "3.5"]))
    cakes, cake = number(rng.choice([36, 38, 44])), number(rng.choice(["1.2", "1.8", "2.2"]))
    box, hall, goal = (number(rng.choice(r)) for r in ((19, 23, 27), (85, 90), (520, 560, 640)))
    gift = number(rng.choice([40, 60, 75]))
    profit = book.open(
        adults * adult + children * child,
        f"Our choir gave a concert last night to raise {goal} euros for a new piano stool and "
        f"sheet music. An adult ticket was {adult} euros and a child's ticket {child} euros. The "
        f"lady at the door is very exact: she counted {adults} adults and {children} children, "
        f"and two dogs, who came in free and stayed until the end. I am the treasurer and have to "
        f"present the figures step by step at our meeting. What did the tickets bring in, in "
        f"euros?",
        f"We are the scouts of Hillbrook, and we want {goal} euros for new tents. So we took "
        f"people across the lake in our two old boats all Sunday. Grown-ups paid {adult} euros "
        f"for the ride, children {child} euros. According to the book by the landing we had "
        f"{adults} grown-ups and {children} children before the rain began, and nobody fell into "
        f"the water, except Tobias, who is one of us and did not pay. How much did the rides "
        f"bring?",
    )
    profit = book.open(
        profit + cakes * cake - box - hall,
        f"In the interval we also sold cake, {cakes} pieces at {cake} euros each, all of it baked "
        f"and given by the altos. Against that stand two bills. The programmes were printed in "
        f"town and cost {box} euros for the box, and the parish wants {hall} euros for the hall "
        f"with heating, which I find a lot, seeing that the heating did not work. What have we "
        f"earned when cake is added and both bills are paid?",
        f"That is not all. At the landing we sold sausages in a bun, {cakes} of them at {cake} "
        f"euros apiece; the butcher gave us the sausages for nothing, because his son is a scout. "
        f"But the buns were {box} euros for a box, and the owner of the meadow where people "
        f"parked asked us for {hall} euros in the evening. Please add the sausages and subtract "
        f"both of these costs. What is our profit?",
    )
    profit = book.change(
        profit,
        profit + child * 5,
        "5 children's tickets were forgotten in the count. Add them.",
        "5 more children paid after the rain. What is it then?",
    )
    book.side(
        profit / 4,
        "The 4 voices of the choir share it equally. How much each?",
        "The 4 patrols ask for equal shares. How much each?",
    )
    profit = book.change(
        profit,
        profit - adult,
        "One adult wants his ticket refunded. We do. Now?",
        "We gave one seasick grown-up the fare back. Profit?",
    )
    book.side(
        adults + children,
        "How many people did the lady count, without the dogs?",
        "How many passengers were in the book at first?",
    )
    profit = book.change(
        profit,
        profit + cake * 6,
        "6 pieces of cake were paid for today. New result?",
        "6 cold sausages sold at the same price. And now?",
    )
    book.side(
        goal - profit,
        "How far are we from our goal?",
        "How much is still missing for the tents?",
    )
    profit = book.change(
        profit,
        profit + gift,
        f"The baker gives us {gift} euros. What do we have?",
        f"My uncle puts {gift} euros on top. Total?",
    )
    book.side(
        adults * adult - children * child,
        "In the first count, how much more came from adults than children?",
        "By how much did grown-ups outdo children before the rain?",
    )
    profit = book.change(
        profit,
        profit - box,
        "We had to print the programmes again, same price. Left?",
        "The scoutmaster ordered the same box of buns again. Profit?",
    )
    profit = book.change(
        profit,
        profit * (number(100) - 20) / 100,
        "20 percent of it we pass on to the refugees' choir. What stays?",
        "The district keeps 20 percent of all that. What remains for us?",
    )
    profit = book.change(
        profit,
        profit * 2,
        "A friend of music doubles what we have. How much?",
        "The town doubles what is in our tin. So?",
    )
    book.talk(
        "Put the result in one sentence for the meeting.",
        "Write one proud sentence for our notice board.",
    )


def recipe(rng: Random, book: Book) -> None:
    base, each = number(rng.choice([4, 5])), number(rng.choice([60, 70, 80]))
    drop, eggs = number(rng.choice([90, 110, 120])), number(rng.choice([2, 3]))
    people = base * number(rng.choice([6, 7, 8]))
    # The texts give these products as plain numbers, so the expressions hold them as such.
    people, flour, milk = (number(str(n)) for n in (people, base * each, base * drop))
    stock, carton = number(rng.choice([450, 650, 750])), number(rng.choice([1000, 1500]))
    spilt, cup = number(rng.choice([35, 45, 55])), number(rng.choice([125, 130, 140]))
    need = book.open(
        flour * people / base,
        f"I cook for a children's camp in the woods, on a stove with a temper of its own, and "
        f"tomorrow morning there shall be pancakes. My grandmother's recipe is for {base} people "
        f"and says {flour} grams of flour, {milk} millilitres of milk and {eggs} eggs. There will "
        f"be {people} of us at the table, if we count the two rangers. I have never made that "
        f"many, so we had better do the numbers one by one. How many grams of flour do I need for "
        f"everybody?",
        f"On Fridays our parish serves a soup with dumplings to whoever comes, and this week it "
        f"is my turn to stand at the pot. For the dumplings the book takes, per {base} guests, "
        f"{flour} grams of semolina, {milk} millilitres of milk and {eggs} eggs. Usually they are "
        f"fewer, but with this cold we expect {people} guests, and nobody should go home hungry. "
        f"Let us begin with the dry part: how many grams of semolina is that for all the guests?",
    )
    book.open(
        need - stock,
        f"I looked into the store tent. There is an opened bag with {stock} grams of flour, dry "
        f"and without any beetles, which we use up first. There is also milk from yesterday, "
        f"{carton} millilitres in all, standing in the cold brook in a bottle. The shop in the "
        f"village closes at six, and one of the rangers drives down there at five with my list, "
        f"so I have to tell him now. How many grams of flour must he bring to reach what I need?",
        f"The cupboard is not empty, thank heaven. Behind the vinegar stands a jar of semolina, "
        f"and on the kitchen scales it comes to {stock} grams without the jar. The fridge has "
        f"{carton} millilitres of milk, still good until Saturday. Mrs. Brandt is going to the "
        f"wholesaler for me and wants to know exactly what to get, because she hates leftovers "
        f"more than anything. How many grams of semolina should she buy, so that we have just "
        f"enough?",
    )
    need = book.change(
        need,
        need + flour / base * 3,
        "3 more people come. How much flour do we need in all?",
        "3 guests more. Semolina for everybody, in total?",
    )
    book.side(
        eggs * people / base,
        "How many eggs for the number we had at first?",
        "And eggs, for the guests I first expected?",
    )
    need = book.change(
        need,
        need - flour / base * 2,
        "2 people cannot stand pancakes. Flour without them?",
        "2 of them bring their own bread. Semolina without those?",
    )
    book.side(
        need - stock,
        "With the opened bag, how much must he bring now?",
        "So what should she buy, given the jar?",
    )
    need = book.change(
        need,
        need * (number(100) + 10) / 100,
        "Let us take 10 percent more, for the hungry ones. How much?",
        "Add 10 percent to be safe. What is it then?",
    )
    book.side(
        milk * people / base - carton,
        "How much milk is missing for that first number of us?",
        "How much milk do I lack for the guests first expected?",
    )
    need = book.change(
        need,
        need - spilt,
        f"It is weighed out, and I spill {spilt} grams. What is left?",
        f"{spilt} grams of the weighed semolina went on the floor. Left?",
    )
    book.side(
        need / 1000,
        "What is that in kilograms?",
        "Tell me that in kilograms, please.",
    )
    need = book.change(
        need,
        need + cup * 2,
        f"The neighbouring camp gives us 2 cups of {cup} grams. Now?",
        f"I find 2 more cups, {cup} grams each. Altogether?",
    )
    need = book.change(
        need,
        need / 2,
        "Half of all that I keep for Sunday. How much for tomorrow?",
        "Half the dumplings we freeze raw. Semolina for the other half?",
    )
    book.side(
        need - flour,
        "How much more is that than in grandmother's recipe?",
        "By how much does that exceed the amount in the book?",
    )
    book.talk(
        "Tell the ranger in one sentence what to buy.",
        "One sentence for Mrs. Brandt, with what matters.",
    )
