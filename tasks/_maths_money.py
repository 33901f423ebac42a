"""Maths scenarios about money: shopping, saving."""

from __future__ import annotations

from random import Random

from tasks._maths_book import Book, number


def shopping(rng: Random, book: Book) -> None:
    crates, plates, melons = (number(rng.choice(r)) for r in ((4, 5, 6), (3, 7, 8), (9, 11, 12)))
    crate = number(rng.choice(["7.5", "8.4", "9.2"]))
    plate = number(rng.choice(["2.4", "3.6", "4.3"]))
    melon = number(rng.choice(["2", "2.5", "3"]))
    deposit = number(rng.choice(["1.5", "3.3", "2.7"]))
    fee = number(rng.choice([10, 13, 14]))
    budget = number(rng.choice([180, 200, 220]))
    flowers = number(rng.choice([15, 16, 17]))
    bill = book.open(
        crates * crate + plates * plate + melons * melon,
        f"Our street has its summer party on Saturday, and I do the shopping. The neighbours gave "
        f"me {budget} euros in an envelope. On my list are {crates} crates of lemonade at {crate} "
        f"euros a crate, {plates} packets of paper plates at {plate} euros a packet, and {melons} "
        f"melons at {melon} euros each. Please keep the list in mind, because my neighbours "
        f"change their minds every hour and I will come back with each new wish. For a start, "
        f"what does everything on the list cost together, in euros?",
        f"We are going to paint our classroom during the holidays, thirty parents and one ladder. "
        f"The parents' fund gives us {budget} euros. The shop on the corner sells white paint at "
        f"{crate} euros a tin, and we want {crates} tins. Rollers come in sets at {plate} euros a "
        f"set, of which we take {plates}. Then there is masking tape at {melon} euros a roll, "
        f"{melons} rolls, since the room has many windows. What is the sum for paint, rollers and "
        f"tape?",
    )
    bill = book.open(
        bill + crates * deposit + fee,
        f"I forgot two things. The shop asks a deposit of {deposit} euros on every crate of "
        f"lemonade, which we get back when we return the empty bottles on Monday. And as I have "
        f"no car, they would bring it all to my door in the afternoon for {fee} euros, stairs "
        f"included, if I order before noon today. Let us say I do that. How much will be on the "
        f"bill then, with the deposit and the delivery?",
        f"Now the lady at the counter tells me that each tin carries a recycling fee of {deposit} "
        f"euros, as paint counts as dangerous waste. She would also lend us a second ladder and "
        f"two long poles for the whole week, which costs {fee} euros altogether, and I think that "
        f"we will need them, the ceiling being three metres high. So please add the fees and the "
        f"loan to the sum. Where do we stand?",
    )
    bill = book.change(
        bill,
        bill - melon,
        "Take one melon off the list. What is the bill now?",
        "One roll of tape less, please. And the sum?",
    )
    book.side(
        budget - bill,
        "How much is left in the envelope after that?",
        "So what remains of the parents' fund?",
    )
    bill = book.change(
        bill,
        bill + plate,
        "We need one more packet of plates. Bill?",
        "Put in another set of rollers. How much is it then?",
    )
    bill = book.change(
        bill,
        bill - fee,
        "My cousin fetches it all, so no delivery. Total?",
        "A father has a ladder and poles, so cancel the loan. Sum?",
    )
    book.side(
        bill / 4,
        "If 4 families shared this bill equally, what would each pay?",
        "Divide that among 4 classes. How much for each?",
    )
    bill = book.change(
        bill,
        bill + melon * 2,
        "Now they want 2 melons more. New total?",
        "The windows need 2 more rolls after all. Sum?",
    )
    bill = book.change(
        bill,
        bill * (number(100) - 10) / 100,
        "The shop takes 10 percent off the whole bill. What is left to pay?",
        "As a school we get 10 percent off all of it. So?",
    )
    book.side(
        crates * deposit,
        "How much deposit comes back for all the crates?",
        "How much of it all were the recycling fees, before any discount?",
    )
    bill = book.change(
        bill,
        bill + flowers,
        f"Add flowers for {flowers} euros. And now?",
        f"The caretaker wants {flowers} euros for cleaning. Total with that?",
    )
    book.side(
        budget - bill,
        "And what stays in the envelope?",
        "How much of the fund do we still have?",
    )
    book.side(
        crates * crate - melons * melon,
        "On my first list, how much dearer was the lemonade than the melons?",
        "At the very start, how much more was paint than tape?",
    )
    book.talk(
        "Which of my changes saved us most? One sentence, please.",
        "Tell the parents in one sentence what we spend and why.",
    )


def saving(rng: Random, book: Book) -> None:
    have, weekly, spent = (number(rng.choice(r)) for r in ((46, 58, 64), (15, 18, 20), (6, 7, 8)))
    weeks, comics, card = (number(rng.choice(r)) for r in ((6, 7, 9), (11, 13, 14), (12, 16, 17)))
    comic = number(rng.choice(["1.5", "2.5", "3.5"]))
    goal = number(rng.choice([360, 390, 420]))
    lent, found, cheaper = (number(rng.choice(r)) for r in ((21, 22, 24), (5, 10), (25, 30, 35)))
    money = book.open(
        have + weeks * (weekly - spent),
        f"I want to buy a used guitar that costs {goal} euros in the shop by the station. In my "
        f"tin there are {have} euros from my birthday. Every Saturday I earn {weekly} euros "
        f"because I carry out newspapers, and every week I spend {spent} euros of that on the "
        f"swimming pool and on chips, which I am not willing to give up. I started to count "
        f"today. How many euros will be in the tin after {weeks} weeks, if nothing else happens?",
        f"My wife and I save for a cargo bike; the one we like is {goal} euros, second hand, with "
        f"a dent. We put {have} euros in a jar on New Year's Day. Since then {weekly} euros go in "
        f"each week, the price of the cigarettes I no longer smoke, but {spent} euros come out "
        f"each week for the liquorice that I eat in their place. That has been going on for "
        f"{weeks} weeks without a break. How much should we find in the jar?",
    )
    money = book.open(
        money + comics * comic - card,
        f"Good. Then there is the flea market at the end of that time. My grandmother lets me "
        f"have her table for nothing, and I can sell {comics} of my old comics there; I think I "
        f"will get {comic} euros for each of them, since most are in good shape. On the same day "
        f"I have to buy a present for my aunt, and I found a nice scarf for {card} euros. How "
        f"much is in the tin when I come home from the market?",
        f"It was exactly that, we counted. On Sunday we emptied the cellar and carried {comics} "
        f"jars of last year's honey to the farm shop, where they paid us {comic} euros for each; "
        f"our bees had been generous. On the way home, though, we ran over a nail, and a new tube "
        f"for my old bicycle came to {card} euros, which we took from the jar as well. How much "
        f"is in there after that Sunday?",
    )
    book.side(
        goal - money,
        "How much is missing for the guitar?",
        "How far is that from the price of the cargo bike?",
    )
    money = book.change(
        money,
        money + (weekly - spent) * 4,
        "4 more weeks pass as before. What is in the tin?",
        "We go on like that for 4 weeks. And then?",
    )
    money = book.change(
        money,
        money - card,
        "My other aunt gets the same scarf. What is left?",
        "A second tube, same price. How much remains?",
    )
    money = book.change(
        money,
        money + comic,
        "I sell one more comic at the old price. Now?",
        "One forgotten jar of honey, sold as before. Total?",
    )
    book.side(
        money - have,
        "How much more is that than I had at the start?",
        "By how much has it grown since New Year's Day?",
    )
    money = book.change(
        money,
        money * (number(100) + 10) / 100,
        "Grandfather adds 10 percent of what I have. How much is it?",
        "My mother tops it up by 10 percent. What is it now?",
    )
    money = book.change(
        money,
        money - lent,
        f"I lend my brother {lent} euros. What stays with me?",
        f"The cat's vet took {lent} euros. What is left in it?",
    )
    money = book.change(
        money,
        money + found,
        f"{found} euros were in my winter coat! And now?",
        f"I found {found} euros behind the sofa. Sum?",
    )
    book.side(
        goal - cheaper - money,
        f"The guitar gets {cheaper} euros cheaper. What do I still need?",
        f"The owner takes {cheaper} euros off. How much is missing?",
    )
    money = book.change(
        money,
        money + weekly * 2,
        "For 2 weeks I skip pool and chips. What do I have then?",
        "No liquorice at all for 2 weeks. What does the jar hold?",
    )
    book.side(
        money / 2,
        "Suppose I may only use half of that. How much is it?",
        "Half of it is hers, of course. How much is that?",
    )
    book.talk(
        "What should I do next to get there sooner? One sentence.",
        "Say in one sentence what helped us most.",
    )
